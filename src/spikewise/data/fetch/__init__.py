"""How data sets get here: download, unpack, prepare."""
