"""``python -m write_data WRITER FOLDER``: synthetic data, small, by a command that can be killed."""

import sys

import equivariant_nets.data

SMALL = {
    "write_phantoms": {"num_training": 6, "num_validation": 2, "num_test": 2, "size": (20, 20, 20)},
    "write_brain_phantoms": {"num_cases": 8, "size": (26, 28, 24)},
    "write_tumor_phantoms": {"num_cases": 8, "size": (20, 18, 16)},
}

if __name__ == "__main__":
    getattr(equivariant_nets.data, sys.argv[1])(sys.argv[2], **SMALL[sys.argv[1]])
