# A network with the kernel sizes of RepLKNet-31B and light heads, small enough to train on a CPU.
_base_ = 'cascade_mask_rcnn_replknet31b.py'
light = dict(
    num_shared_convs=2,
    in_channels=64,
    conv_out_channels=64,
    fc_out_channels=256,
    num_classes=1,
    norm_cfg=dict(type='BN'))
sampler = dict(type='RandomSampler', num=48, pos_fraction=0.33, neg_pos_ub=-1, add_gt_as_proposals=True)
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            large_kernel_sizes=[31, 29, 27, 13],
            layers=[1, 1, 3, 1],
            channels=[32, 64, 128, 256],
            small_kernel=5),
        drop_path_rate=0.1,
        with_cp=False),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=4),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[4, 6], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, finest_scale=28),
        bbox_head=[dict(head, **light) for head in _base_.model.roi_head.bbox_head],
        mask_roi_extractor=dict(out_channels=64, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=1)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=500),
        rcnn=[dict(stage, sampler=sampler) for stage in _base_.model.train_cfg.rcnn]),
    test_cfg=dict(rcnn=dict(max_per_img=500)))
