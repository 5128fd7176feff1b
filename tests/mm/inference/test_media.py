import numpy as np
import pytest

from mmreplk import InputError
from mmreplk.mm.inference.media import VideoReader, VideoWriter
from tests.mm.inference.conftest import picture


def test_videos_are_written_whole_and_read(tmp_path):
    path, frames = tmp_path / 'new' / 'x.mp4', [picture(48, 65, seed) for seed in range(5)]
    with VideoWriter(path, 12.5) as writer:
        for frame in frames:
            writer.write(frame)
        assert not path.exists()
    with VideoReader(path) as video:
        assert (video.count, video.rate) == (5, 12.5)
        for frame, expected in zip(video, frames, strict=True):
            assert np.abs(frame[:48, :64].astype(int) - expected[:, :64]).mean() < 10
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / 'other.mp4', 10) as writer:
        writer.write(frames[0])
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ['new'] and [p.name for p in path.parent.iterdir()] == ['x.mp4']
    (tmp_path / 'y.mp4').write_bytes(b'no video')
    for name, words in (('y.mp4', 'is not a video that OpenCV can read'), ('z.mp4', 'does not exist')):
        with pytest.raises(InputError, match=words):
            VideoReader(tmp_path / name)
