"""Recordings of event cameras."""
