_base_ = 'default_runtime.py'
default_scope = 'mmdet'
env_cfg = dict(cudnn_benchmark=False)  # it would try out all algorithms for every size of images
default_hooks = dict(
    checkpoint=dict(interval=1, save_best='coco/bbox_mAP'), visualization=dict(type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer', vis_backends={{_base_.vis_backends}}, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
tta_model = dict(
    type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
