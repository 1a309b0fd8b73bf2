"""Imitation refinement from the command line: `python main.py --config=configs/xrd.py`."""

from imitation_refinement.cli import entry_point

if __name__ == "__main__":
    entry_point()
