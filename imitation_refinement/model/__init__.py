"""A trained model of X-ray patterns as a value: using, calibrating, saving, finding and exporting it."""
