"""The live page: scans are dropped in a browser, read, answered and looked at."""
