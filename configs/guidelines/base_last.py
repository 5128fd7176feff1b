# The paper's guideline 5 in minutes on a CPU: kernels that are large on the last map only, 16x16 pixels at stride 32.
# Pictures are twice as large as in the demo, and so is the distance from the middle of a pale object to what tells it:
# 64 to 115 pixels, further than 3x3 kernels look.
_base_ = '../kernel_sizes/base_surroundings.py'
data_root = 'data/mini_surroundings_512'
data_hint = ('Make it with "python tools/dataset_converters/make_mini_dataset.py surroundings '
             'data/mini_surroundings_512 --size 512".')
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        arch=dict(
            layers=[1, 1, 1, 1], channels=[16, 32, 64, 128], large_kernel_sizes=[3, 3, 3, 3], small_kernel=3)),
    decode_head=dict(in_channels=[16, 32, 64, 128], in_index=[0, 1, 2, 3]))
