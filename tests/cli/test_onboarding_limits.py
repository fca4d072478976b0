"""What the process that looks at a revision may take of the machine."""

import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = "import resource\nfrom peekserve.cli.onboarding import _hold_back\n_hold_back()\n"


def said(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="there is no /proc here")
def test_it_takes_half_of_what_is_free_and_is_the_first_to_go():
    limit, score = said(
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0], open('/proc/self/oom_score_adj').read())"
    ).split()
    total = next(
        int(line.split()[1]) << 10
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    assert 0 < int(limit) <= total // 2
    assert score == "1000"
    assert said(f"try: bytearray({limit})\nexcept MemoryError: print('told so')") == "told so"
