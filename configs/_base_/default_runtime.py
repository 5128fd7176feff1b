# What segmentation and detection share.
custom_imports = dict(imports=['mmreplk'])
env_cfg = dict(
    cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='nccl'))
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', max_keep_ckpts=2, backend_args=dict(backend='mmreplk.atomic_local')),
    sampler_seed=dict(type='DistSamplerSeedHook'))
custom_hooks = [
    dict(type='ReparamHook'),
    dict(type='BackboneWeightsHook'),
    dict(type='StrictLoadHook'),
    dict(type='CheckDataHook'),
    dict(type='ExactResumeHook'),
    dict(type='NonFiniteHook'),
    dict(type='PeakMemoryHook'),
    dict(type='ResumeHook')
]
vis_backends = [dict(type='LocalVisBackend')]
log_level = 'INFO'
load_from = None
resume = False
