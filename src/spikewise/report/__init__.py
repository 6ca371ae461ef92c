"""One HTML file about one run or several: what was learned, how, at what cost. Nothing here trains."""
