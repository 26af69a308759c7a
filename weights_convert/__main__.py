"""`python -m weights_convert`: a door to the package's command."""

import sys

from musicldm.cli.convert import main

sys.exit(main())
