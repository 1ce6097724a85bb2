"""How many examples a property is tried on: the same few each time, or with `make fuzz` many new ones."""

import os
import random

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("FUZZ", "1"))


def tries(count):
    """Settings for `count` examples, times FUZZ; without it the same examples on every run, however busy the machine is."""
    return settings(
        max_examples=count * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        suppress_health_check=[HealthCheck.too_slow],
    )


def dice(seed):
    """The same throws on every run; others each time with `make fuzz`, whose seed is printed where a test fails."""
    if FACTOR > 1:
        seed = random.SystemRandom().getrandbits(32)
        print(f"dice({seed})")
    return random.Random(seed)
