# The backbone that the configs of tiny UniRepLKNets put in the place of a tiny RepLKNet, at about its cost.
unireplknet_tiny = dict(
    type='UniRepLKNet',
    arch=dict(layers=[1, 1, 3, 1], channels=[40, 80, 160, 320], kernel_sizes=[[3], [13], [13, 3, 13], [13]]),
    out_indices=(0, 1, 2, 3),
    drop_path_rate=0.1)
