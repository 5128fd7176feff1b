# Swin-T with the recipe of upernet_replknet_tiny_camvid.py, for comparison.
_base_ = 'upernet_replknet_tiny_camvid.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.1),
    decode_head=dict(in_channels=[96, 192, 384, 768]))
