"""A trained model of X-ray patterns as a value: using, calibrating, saving and exporting it."""
