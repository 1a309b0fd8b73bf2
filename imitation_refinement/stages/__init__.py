"""Training as stages of a run: what each trains on, and finding what is finished."""
