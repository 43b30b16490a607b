"""Files of master data into the store: whole or not at all, with a report for every row."""
