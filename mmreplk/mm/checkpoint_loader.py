"""What MMEngine loads as a checkpoint, by ``init_cfg``, ``load_from`` and ``load_checkpoint``.

Published weights by their names too; and with the types that checkpoints may hold, whatever other libraries removed.
"""

from mmengine.runner import checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from ..weights import is_name, local_file
from ..weights.files import allow_types


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local_or_published(filename: str, map_location: object = None) -> dict:
    """Loads the local file, or the published weights of that name, downloaded if they are not here yet.

    MMEngine calls it for every path that names no storage of its own, such as ``s3://``.

    Raises:
        InputError: If it is neither; see :func:`mmreplk.weights.local_file`.
    """
    allow_types()
    return checkpoint.load_from_local(str(local_file(filename)) if is_name(filename) else filename, map_location)


@CheckpointLoader.register_scheme(prefixes=['http://', 'https://'], force=True)
def load_from_http(filename: str, map_location: object = None) -> dict:
    """Loads the file at that address as MMEngine does, and with the types that all checkpoints may hold."""
    allow_types()
    return checkpoint.load_from_http(filename, map_location)
