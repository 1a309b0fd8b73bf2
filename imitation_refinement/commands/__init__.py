"""What --mode=refine, benchmark and unmix do: files in; files and a page out."""
