"""Published weights by name wherever MMEngine loads a checkpoint: ``init_cfg``, ``load_from``, ``load_checkpoint``."""

from mmengine.runner.checkpoint import CheckpointLoader, load_from_local

from ..weights import PUBLISHED, is_name, local_file

_PREFIXES = sorted({f'{published.network.lower()}-' for published in PUBLISHED.values()})


@CheckpointLoader.register_scheme(prefixes=_PREFIXES, force=True)
def load_from_published(filename: str, map_location: object = None) -> dict:
    """Loads the published weights of that name, downloaded if they are not here yet, or the local file.

    MMEngine calls it for every path that begins like such a name.

    Raises:
        InputError: If it is neither; see :func:`mmreplk.weights.local_file`.
    """
    return load_from_local(str(local_file(filename)) if is_name(filename) else filename, map_location)
