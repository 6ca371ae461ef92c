"""How data sets are brought: download, unpack, prepare."""
