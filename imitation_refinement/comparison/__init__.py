"""Every method of the comparison on one benchmark: jobs, tables and pages."""
