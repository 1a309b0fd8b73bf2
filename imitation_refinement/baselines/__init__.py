"""Methods that imitation refinement is compared with."""
