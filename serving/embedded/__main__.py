"""`python -m serving.embedded`: see `serving.embedded.server`."""

import sys

from serving.embedded.server import main

sys.exit(main())
