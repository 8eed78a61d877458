"""A gateway that neither logs predictions nor counts them: what those cost is the difference."""

import sys

from fairlead import dataplane
from fairlead.serve.ledger import Ledger

if __name__ == "__main__":
    Ledger.record = lambda *_: True  # type: ignore[method-assign]
    sys.exit(dataplane.main(sys.argv[1:]))
