"""``python -m hotset`` is ``hotset``."""

from __future__ import annotations

from hotset.cli import main

if __name__ == "__main__":
    main()
