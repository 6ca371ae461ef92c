"""Diagnosis of networks that do not learn."""
