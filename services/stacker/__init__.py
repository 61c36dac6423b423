"""The stacker: asks the four networks about a prepared lesion, combines their logits, records the result.

`worker.py` (composition root) → `stack_analysis.py` (one analysis) → `serving.client` (four calls, one deadline)
→ `stacking.py` (logits to a calibrated probability). `sweep.py` rings again for what was left behind.
"""
