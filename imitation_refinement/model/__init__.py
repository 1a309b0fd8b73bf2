"""A trained model as a value: using, calibrating, saving, finding and exporting it."""
