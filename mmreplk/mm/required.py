"""Says what this storey needs, before anything of it is imported."""

import importlib.util

MISSING = [name for name in ('mmengine', 'mmcv') if importlib.util.find_spec(name) is None]
if MISSING:
    names = ' and '.join(MISSING)
    raise ImportError(f'mmreplk.mm needs MMEngine and MMCV; not installed: {names}. See requirements/', name=MISSING[0])
