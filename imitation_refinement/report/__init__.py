"""Pages, plots and figures: from numbers to what a person looks at."""
