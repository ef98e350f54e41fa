import sys
from pathlib import Path

# The small nets are shared with the tests of quantization.
sys.path.insert(0, str(Path(__file__).parent.parent / "quantize"))
