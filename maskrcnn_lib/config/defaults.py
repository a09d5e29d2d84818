"""Every configuration key with its default and, on the same line, what it means.

Key names and defaults are maskrcnn-benchmark's. Deliberate differences: ``MODEL.DEVICE`` is
"auto", ``PATHS_CATALOG`` is "" (the library's own), and ``MODEL.DIALECT`` is new.
Sizes are in pixels, thresholds and probabilities in [0, 1], class counts include the background.
"""

from maskrcnn_lib.config.node import CfgNode as CN

_C = CN()

_C.MODEL = CN()
_C.MODEL.DIALECT = "maskrcnn_benchmark"  # conventions of the weights; see config/dialects.py
_C.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"  # or "YOLOF", or "RetinaNet", as RETINANET_ON
_C.MODEL.DEVICE = "auto"  # "auto" (cuda where there is a GPU, else cpu), "cpu", "cuda", "cuda:1"
_C.MODEL.WEIGHT = ""  # initial weights: path, URL or "catalog://NAME"; "" starts from scratch
_C.MODEL.CUDA_GRAPHS = False  # train the backbone through CUDA graphs; for small batches on GPUs
_C.MODEL.COMPILE = False  # torch.compile the backbone in training; the first iterations are slow
_C.MODEL.RPN_ONLY = False  # stop after the proposals
_C.MODEL.LOAD_PROPOSALS = False  # Fast R-CNN: regions come from DATASETS.PROPOSAL_FILES_*, no RPN
_C.MODEL.MASK_ON = False  # predict a mask per detection
_C.MODEL.MASKIOU_ON = False  # also predict how good each mask is (Mask Scoring R-CNN)
_C.MODEL.KEYPOINT_ON = False  # predict keypoints per detection
_C.MODEL.RETINANET_ON = False  # RetinaNet in place of the RPN; needs RPN_ONLY
_C.MODEL.NORM = ""  # "frozen", "batch", "sync", "group"; "": STEM_FUNC or BN_TYPE, FBNetV3: none
_C.MODEL.CLS_AGNOSTIC_BBOX_REG = False  # one box regressor for all classes instead of one each

_C.INPUT = CN()
_C.INPUT.MIN_SIZE_TRAIN = (800,)  # shorter side in training; of several, one is drawn per image
_C.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"  # or "range": any size between (smallest, largest)
_C.INPUT.MAX_SIZE_TRAIN = 1333  # cap on the longer side in training; 0: no cap
_C.INPUT.MIN_SIZE_TEST = 800  # shorter side at inference
_C.INPUT.MAX_SIZE_TEST = 1333  # cap on the longer side at inference; 0: no cap
_C.INPUT.PIXEL_MEAN = [102.9801, 115.9465, 122.7717]  # subtracted; []: as a library's body
_C.INPUT.PIXEL_STD = [1.0, 1.0, 1.0]  # divisor per channel, after the mean
_C.INPUT.TO_BGR255 = True  # True: BGR, values 0..255; False: RGB, values 0..1
_C.INPUT.BRIGHTNESS = 0.0  # colour jitter in training: largest relative change of brightness
_C.INPUT.CONTRAST = 0.0  # the same for contrast
_C.INPUT.SATURATION = 0.0  # the same for saturation
_C.INPUT.HUE = 0.0  # largest shift of hue, 0..0.5 of the colour circle
_C.INPUT.HORIZONTAL_FLIP_PROB_TRAIN = 0.5  # probability of a left-right flip in training
_C.INPUT.VERTICAL_FLIP_PROB_TRAIN = 0.0  # probability of an upside-down flip in training

_C.INPUT.CROP = CN()
_C.INPUT.CROP.PROB = 0.0  # probability of a random crop in training
_C.INPUT.CROP.MIN_SHARE = 0.5  # smallest share of width and of height that a crop keeps

_C.INPUT.SHIFT = CN()
_C.INPUT.SHIFT.PROB = 0.0  # probability that a training image is moved after resizing
_C.INPUT.SHIFT.PIXELS = 32  # largest move along x and along y, in pixels of the resized image

_C.INPUT.LSJ = CN()
_C.INPUT.LSJ.ENABLED = False  # large-scale jitter in training, in place of MIN_SIZE_TRAIN
_C.INPUT.LSJ.SIZE = 1024  # side of its square: images are cropped or padded to it
_C.INPUT.LSJ.SCALES = (0.1, 2.0)  # smallest and largest scale; at 1 the long side fills the square

_C.INPUT.COPY_PASTE = CN()
_C.INPUT.COPY_PASTE.PROB = 0.0  # probability that objects of another image are pasted in
_C.INPUT.COPY_PASTE.SCALES = (0.5, 1.5)  # scale of the other image; at 1 it just fits into this one

_C.DATASETS = CN()
_C.DATASETS.TRAIN = ()  # catalog names, or "coco:annotations.json:images_dir"; concatenated
_C.DATASETS.TEST = ()  # the same; evaluated one by one
_C.DATASETS.PROPOSAL_FILES_TRAIN = ()  # .npz, .json, Detectron's .pkl; one for each of TRAIN
_C.DATASETS.PROPOSAL_FILES_TEST = ()  # the same for each of TEST
_C.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN = 2000  # best proposals of an image to train on
_C.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST = 1000  # the same for tests

_C.DATALOADER = CN()
_C.DATALOADER.NUM_WORKERS = 4  # loader processes per training process; at most one per CPU
_C.DATALOADER.SIZE_DIVISIBILITY = 0  # pad height and width to a multiple of this; 0: do not round
_C.DATALOADER.PAD_TO = []  # [height, width] sizes that batches take; few suit MODEL.CUDA_GRAPHS
_C.DATALOADER.KEEP_EMPTY = False  # train on images without objects, too, as negatives
_C.DATALOADER.ASPECT_RATIO_GROUPING = True  # portrait and landscape images in separate batches
_C.DATALOADER.ON_BAD_IMAGE = "raise"  # or "skip": train on another one in its place, and count it
_C.DATALOADER.SAMPLER = ""  # or "repeat_factor": images with rare classes come more often
_C.DATALOADER.REPEAT_THRESHOLD = 0.001  # classes in a smaller share of the images are rare

_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.CONV_BODY = "R-50-C4"  # registered name of the backbone
_C.MODEL.BACKBONE.FREEZE_CONV_BODY_AT = 2  # freeze the first N of stem, layer1, layer2, ...
_C.MODEL.BACKBONE.OUT_LAYERS = []  # of a torchvision/ body: whose maps; []: the last per stride

_C.MODEL.FPN = CN()
_C.MODEL.FPN.USE_GN = False  # group norm after each FPN convolution
_C.MODEL.FPN.NORM = ""  # norm after each FPN convolution, named as in MODEL.NORM; "": USE_GN says
_C.MODEL.FPN.USE_RELU = False  # ReLU after each FPN convolution

_C.MODEL.GROUP_NORM = CN()
_C.MODEL.GROUP_NORM.DIM_PER_GP = -1  # channels per group; -1: NUM_GROUPS decides
_C.MODEL.GROUP_NORM.NUM_GROUPS = 32  # number of groups; -1: DIM_PER_GP decides
_C.MODEL.GROUP_NORM.EPSILON = 1e-5  # added to the variance

_C.MODEL.RESNETS = CN()
_C.MODEL.RESNETS.NUM_GROUPS = 1  # groups of the 3x3 convolutions; > 1 makes a ResNeXt
_C.MODEL.RESNETS.WIDTH_PER_GROUP = 64  # channels per group in the first stage
_C.MODEL.RESNETS.STRIDE_IN_1X1 = True  # stride on the first 1x1 (MSRA) instead of the 3x3
_C.MODEL.RESNETS.TRANS_FUNC = "BottleneckWithFixedBatchNorm"  # block; or "BottleneckWithGN"
_C.MODEL.RESNETS.STEM_FUNC = "StemWithFixedBatchNorm"  # stem; or "StemWithGN"
_C.MODEL.RESNETS.RES5_DILATION = 1  # dilation of the last stage in C4 heads and C5 bodies
_C.MODEL.RESNETS.BACKBONE_OUT_CHANNELS = 256 * 4  # channels that the heads receive; FPN: 256
_C.MODEL.RESNETS.RES2_OUT_CHANNELS = 256  # channels of the first stage; doubles per stage
_C.MODEL.RESNETS.STEM_OUT_CHANNELS = 64  # channels of the stem
_C.MODEL.RESNETS.STAGE_WITH_DCN = (False, False, False, False)  # deformable 3x3 in stages 2..5
_C.MODEL.RESNETS.WITH_MODULATED_DCN = False  # modulated (v2) deformable convolutions
_C.MODEL.RESNETS.DEFORMABLE_GROUPS = 1  # offset groups of the deformable convolutions

_C.MODEL.RPN = CN()
_C.MODEL.RPN.USE_FPN = False  # one anchor size per pyramid level instead of all on one map
_C.MODEL.RPN.ANCHOR_SIZES = (32, 64, 128, 256, 512)  # root of the area, per level or all
_C.MODEL.RPN.ANCHOR_STRIDE = (16,)  # pixels per feature map cell, one per level
_C.MODEL.RPN.ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width
_C.MODEL.RPN.STRADDLE_THRESH = 0  # train anchors at most this far outside the image; < 0: all
_C.MODEL.RPN.FG_IOU_THRESHOLD = 0.7  # anchors of at least this IoU are positive
_C.MODEL.RPN.BG_IOU_THRESHOLD = 0.3  # anchors below this IoU are negative
_C.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 256  # anchors sampled per image for the loss
_C.MODEL.RPN.POSITIVE_FRACTION = 0.5  # largest share of positives among them
_C.MODEL.RPN.PRE_NMS_TOP_N_TRAIN = 12000  # best anchors kept before NMS, per level, in training
_C.MODEL.RPN.PRE_NMS_TOP_N_TEST = 6000  # the same at inference
_C.MODEL.RPN.POST_NMS_TOP_N_TRAIN = 2000  # proposals kept after NMS, per level, in training
_C.MODEL.RPN.POST_NMS_TOP_N_TEST = 1000  # the same at inference
_C.MODEL.RPN.NMS_THRESH = 0.7  # IoU above which the lower proposal is dropped
_C.MODEL.RPN.MIN_SIZE = 0.0  # proposals narrower or lower than this are dropped
_C.MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN = 2000  # proposals kept of all levels together, training
_C.MODEL.RPN.FPN_POST_NMS_TOP_N_TEST = 2000  # the same at inference, per image
_C.MODEL.RPN.FPN_POST_NMS_PER_BATCH = True  # training: count them per batch, as Detectron did
_C.MODEL.RPN.SMOOTH_L1_BETA = -1.0  # the box loss turns linear there; 0: L1; < 0: MODEL.DIALECT's
_C.MODEL.RPN.RPN_HEAD = "SingleConvRPNHead"  # registered name of the head
_C.MODEL.RPN.CONV_DIM = -1  # channels behind the 3x3 of "SingleConvRPNHead"; < 0: as before it
_C.MODEL.RPN.NUM_CONVS = 2  # 3x3 convolutions of RPN_HEAD "StackedConvRPNHead"
_C.MODEL.RPN.SCORE_THRESH = 0.0  # proposals below this objectness are dropped

_C.MODEL.ROI_HEADS = CN()
_C.MODEL.ROI_HEADS.USE_FPN = False  # said by FPN configs; the poolers' scales decide
_C.MODEL.ROI_HEADS.FG_IOU_THRESHOLD = 0.5  # proposals of at least this IoU are positive
_C.MODEL.ROI_HEADS.BG_IOU_THRESHOLD = 0.5  # proposals below this IoU are background
_C.MODEL.ROI_HEADS.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # scale of dx, dy, dw, dh
_C.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 512  # proposals sampled per image for the loss
_C.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.25  # largest share of positives among them
_C.MODEL.ROI_HEADS.HARDEST_REGIONS = False  # those of the highest loss, not random ones (OHEM)
_C.MODEL.ROI_HEADS.SCORE_THRESH = 0.05  # detections below this score are dropped
_C.MODEL.ROI_HEADS.NMS = 0.5  # IoU above which the lower detection of the same class is dropped
_C.MODEL.ROI_HEADS.DETECTIONS_PER_IMG = 100  # most detections per image; 0 or less for all

_C.MODEL.ROI_BOX_HEAD = CN()
_C.MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR = "ResNet50Conv5ROIFeatureExtractor"  # registered name
_C.MODEL.ROI_BOX_HEAD.PREDICTOR = "FastRCNNPredictor"  # registered name
_C.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 14  # side of the pooled map
_C.MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO = 0  # samples per bin and axis; 0: by RoI size
_C.MODEL.ROI_BOX_HEAD.POOLER_SCALES = (1.0 / 16,)  # feature map size / image size, per level
_C.MODEL.ROI_BOX_HEAD.NUM_CLASSES = 81  # with background; masks have as many channels
_C.MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM = 1024  # width of the fully connected layers
_C.MODEL.ROI_BOX_HEAD.USE_GN = False  # group norm in the Xconv1fc and 2MLP heads
_C.MODEL.ROI_BOX_HEAD.NORM = ""  # norm of the Xconv1fc head, as in MODEL.NORM; "": USE_GN says
_C.MODEL.ROI_BOX_HEAD.DILATION = 1  # dilation of the Xconv1fc convolutions
_C.MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM = 256  # width of the Xconv1fc convolutions
_C.MODEL.ROI_BOX_HEAD.NUM_STACKED_CONVS = 4  # number of the Xconv1fc convolutions
_C.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA = -1.0  # as MODEL.RPN.SMOOTH_L1_BETA

_C.MODEL.ROI_BOX_CASCADE_HEAD = CN()
_C.MODEL.ROI_BOX_CASCADE_HEAD.IOUS = ()  # IoU of a positive in each stage, as (0.5, 0.6, 0.7)
_C.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS = [  # scale of dx, dy, dw, dh in each stage
    [10.0, 10.0, 5.0, 5.0],
    [20.0, 20.0, 10.0, 10.0],
    [30.0, 30.0, 15.0, 15.0],
]
_C.MODEL.ROI_BOX_CASCADE_HEAD.LOSS_WEIGHTS = (1.0, 0.5, 0.25)  # of each stage; detectron2: all 1
_C.MODEL.ROI_BOX_CASCADE_HEAD.FEATURE_GRADIENT = 1.0  # factor to the maps; detectron2: 1 / stages
_C.MODEL.ROI_BOX_CASCADE_HEAD.MASK_PER_STAGE = True  # a mask head each; detectron2: one for all

_C.MODEL.RFCN = CN()
_C.MODEL.RFCN.PS_GRID_SIZE = 3  # bins of a region along each side, each with score maps of its own
_C.MODEL.RFCN.ALIGN = False  # bins average bilinear samples instead of whole pixels
_C.MODEL.RFCN.REDUCED_CHANNELS = 1024  # of a convolution in front of the score maps; 0: none

_C.MODEL.ROI_MASK_HEAD = CN()
_C.MODEL.ROI_MASK_HEAD.FEATURE_EXTRACTOR = "ResNet50Conv5ROIFeatureExtractor"  # registered name
_C.MODEL.ROI_MASK_HEAD.PREDICTOR = "MaskRCNNC4Predictor"  # registered name
_C.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 14  # side of the pooled map
_C.MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO = 0  # samples per bin and axis; 0: by RoI size
_C.MODEL.ROI_MASK_HEAD.POOLER_SCALES = (1.0 / 16,)  # feature map size / image size, per level
_C.MODEL.ROI_MASK_HEAD.MLP_HEAD_DIM = 1024  # read by nothing; kept for old files
_C.MODEL.ROI_MASK_HEAD.CONV_LAYERS = (256, 256, 256, 256)  # convolution widths; last: deconv too
_C.MODEL.ROI_MASK_HEAD.RESOLUTION = 14  # side of a mask; has to be what the head gives
_C.MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR = True  # reuse the box head's features (C4)
_C.MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS = False  # not followed: masks are pasted on demand
_C.MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS_THRESHOLD = 0.5  # probability of a mask's pixels
_C.MODEL.ROI_MASK_HEAD.DILATION = 1  # dilation of the convolutions
_C.MODEL.ROI_MASK_HEAD.USE_GN = False  # group norm after the convolutions
_C.MODEL.ROI_MASK_HEAD.NORM = ""  # norm after them, as in MODEL.NORM; "": USE_GN says
_C.MODEL.ROI_MASK_HEAD.POINT_HEAD_ON = False  # coarse masks, refined point by point (PointRend)

_C.MODEL.POINT_HEAD = CN()
_C.MODEL.POINT_HEAD.NUM_FC = 3  # layers before the last one
_C.MODEL.POINT_HEAD.FC_DIM = 256  # their width
_C.MODEL.POINT_HEAD.TRAIN_NUM_POINTS = 196  # points of each region to learn from
_C.MODEL.POINT_HEAD.OVERSAMPLE_RATIO = 3.0  # random points to choose from, relative to those
_C.MODEL.POINT_HEAD.IMPORTANCE_SAMPLE_RATIO = 0.75  # share of points chosen for being uncertain
_C.MODEL.POINT_HEAD.SUBDIVISION_STEPS = 5  # how often a mask's side is doubled
_C.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS = 784  # pixels that are refined each time

_C.MODEL.ROI_KEYPOINT_HEAD = CN()
_C.MODEL.ROI_KEYPOINT_HEAD.FEATURE_EXTRACTOR = "KeypointRCNNFeatureExtractor"  # registered name
_C.MODEL.ROI_KEYPOINT_HEAD.PREDICTOR = "KeypointRCNNPredictor"  # registered name
_C.MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION = 14  # side of the pooled map
_C.MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO = 0  # samples per bin and axis; 0: by RoI size
_C.MODEL.ROI_KEYPOINT_HEAD.POOLER_SCALES = (1.0 / 16,)  # feature map size / image size, per level
_C.MODEL.ROI_KEYPOINT_HEAD.MLP_HEAD_DIM = 1024  # read by nothing; kept for old files
_C.MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS = (512, 512, 512, 512, 512, 512, 512, 512)  # widths
_C.MODEL.ROI_KEYPOINT_HEAD.RESOLUTION = 14  # read by nothing: a map's side follows likewise
_C.MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES = 17  # number of keypoints
_C.MODEL.ROI_KEYPOINT_HEAD.NAMES = []  # of the keypoints; []: a person's, if they are 17
_C.MODEL.ROI_KEYPOINT_HEAD.CONNECTIONS = []  # pairs of keypoints, from 0, to draw lines between
_C.MODEL.ROI_KEYPOINT_HEAD.SHARE_BOX_FEATURE_EXTRACTOR = True  # reuse the box head's features

_C.MODEL.RETINANET = CN()
_C.MODEL.RETINANET.NUM_CLASSES = 81  # with background
_C.MODEL.RETINANET.ANCHOR_SIZES = (32, 64, 128, 256, 512)  # base size per level
_C.MODEL.RETINANET.ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width
_C.MODEL.RETINANET.ANCHOR_STRIDES = (8, 16, 32, 64, 128)  # pixels per cell, levels P3..P7
_C.MODEL.RETINANET.STRADDLE_THRESH = 0  # read by nothing: all anchors are trained
_C.MODEL.RETINANET.OCTAVE = 2.0  # ratio between the sizes of neighbouring levels
_C.MODEL.RETINANET.SCALES_PER_OCTAVE = 3  # anchor sizes per level
_C.MODEL.RETINANET.USE_C5 = True  # P6 from C5 instead of P5
_C.MODEL.RETINANET.NUM_CONVS = 4  # convolutions in each tower
_C.MODEL.RETINANET.USE_GN = False  # group norm after the convolutions of the towers
_C.MODEL.RETINANET.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # scale of dx, dy, dw, dh
_C.MODEL.RETINANET.BBOX_REG_LOSS = "smooth_l1"  # or "giou"
_C.MODEL.RETINANET.BBOX_REG_WEIGHT = 4.0  # the box loss is divided by this times the positives
_C.MODEL.RETINANET.BBOX_REG_BETA = 0.11  # smooth-L1 turns linear at this difference
_C.MODEL.RETINANET.PRE_NMS_TOP_N = 1000  # best (anchor, class) pairs kept per level
_C.MODEL.RETINANET.FG_IOU_THRESHOLD = 0.5  # anchors of at least this IoU are positive
_C.MODEL.RETINANET.BG_IOU_THRESHOLD = 0.4  # anchors below this IoU are negative
_C.MODEL.RETINANET.LOSS_ALPHA = 0.25  # focal loss: weight of the positives
_C.MODEL.RETINANET.LOSS_GAMMA = 2.0  # focal loss: exponent
_C.MODEL.RETINANET.PRIOR_PROB = 0.01  # score of every anchor at the start of training
_C.MODEL.RETINANET.INFERENCE_TH = 0.05  # detections below this score are dropped
_C.MODEL.RETINANET.NMS_TH = 0.4  # IoU above which the lower detection is dropped

_C.MODEL.YOLOF = CN()
_C.MODEL.YOLOF.NUM_CLASSES = 81  # with background
_C.MODEL.YOLOF.NORM = "batch"  # of encoder and head: "frozen", "batch", "sync", "group"
_C.MODEL.YOLOF.ENCODER_WIDTH = 128  # channels of the encoder's 3x3 convolutions
_C.MODEL.YOLOF.ENCODER_DILATIONS = (2, 4, 6, 8)  # one for each block of the encoder
_C.MODEL.YOLOF.NUM_CLS_CONVS = 2  # convolutions in the tower of classes
_C.MODEL.YOLOF.NUM_REG_CONVS = 4  # convolutions in the tower of boxes and objectness
_C.MODEL.YOLOF.ANCHOR_SIZES = (32, 64, 128, 256, 512)  # sides of the anchors, which are square
_C.MODEL.YOLOF.ANCHOR_STRIDE = 32  # pixels per cell of the map
_C.MODEL.YOLOF.LARGEST_SHIFT = 32.0  # pixels from an anchor's centre to its box's, along x and y
_C.MODEL.YOLOF.MATCHES = 4  # nearest anchors, and nearest predictions, that learn an object
_C.MODEL.YOLOF.MIN_ANCHOR_IOU = 0.15  # of them, anchors below this IoU learn nothing
_C.MODEL.YOLOF.MAX_BACKGROUND_IOU = 0.7  # predictions above this IoU are not called background
_C.MODEL.YOLOF.LOSS_ALPHA = 0.25  # focal loss: weight of the positives
_C.MODEL.YOLOF.LOSS_GAMMA = 2.0  # focal loss: exponent
_C.MODEL.YOLOF.PRIOR_PROB = 0.01  # score of every class at the start, before objectness
_C.MODEL.YOLOF.PRE_NMS_TOP_N = 1000  # best (anchor, class) pairs kept
_C.MODEL.YOLOF.INFERENCE_TH = 0.05  # detections below this score are dropped
_C.MODEL.YOLOF.NMS_TH = 0.6  # IoU above which the lower detection is dropped

_C.MODEL.FBNET = CN()
_C.MODEL.FBNET.ARCH = "default"  # name of the architecture
_C.MODEL.FBNET.ARCH_DEF = ""  # or the architecture itself as JSON; "" takes ARCH
_C.MODEL.FBNET.BN_TYPE = "bn"  # "bn", "gn" or "af" (frozen)
_C.MODEL.FBNET.SCALE_FACTOR = 1.0  # multiplies all widths
_C.MODEL.FBNET.WIDTH_DIVISOR = 1  # widths are rounded to a multiple of this
_C.MODEL.FBNET.DW_CONV_SKIP_BN = True  # no norm after depthwise convolutions
_C.MODEL.FBNET.DW_CONV_SKIP_RELU = True  # no ReLU after depthwise convolutions
_C.MODEL.FBNET.DET_HEAD_LAST_SCALE = 1.0  # box head's last width: > 0 factor, 0 none, < 0 same
_C.MODEL.FBNET.DET_HEAD_BLOCKS = []  # which blocks of the box head's, from 0; []: all
_C.MODEL.FBNET.DET_HEAD_STRIDE = 0  # stride of its first block; 0: its own
_C.MODEL.FBNET.KPTS_HEAD_LAST_SCALE = 0.0  # the same for the keypoint head
_C.MODEL.FBNET.KPTS_HEAD_BLOCKS = []  # the same for the keypoint head
_C.MODEL.FBNET.KPTS_HEAD_STRIDE = 0  # the same for the keypoint head
_C.MODEL.FBNET.MASK_HEAD_LAST_SCALE = 0.0  # the same for the mask head
_C.MODEL.FBNET.MASK_HEAD_BLOCKS = []  # the same for the mask head
_C.MODEL.FBNET.MASK_HEAD_STRIDE = 0  # the same for the mask head
_C.MODEL.FBNET.RPN_HEAD_BLOCKS = 0  # so many of the RPN head's blocks, the last ones; 0: all
_C.MODEL.FBNET.RPN_BN_TYPE = ""  # norm of the RPN head; "": BN_TYPE

_C.SOLVER = CN()
_C.SOLVER.MAX_ITER = 40000  # iterations to train
_C.SOLVER.BASE_LR = 0.001  # learning rate after the warm-up
_C.SOLVER.BIAS_LR_FACTOR = 2.0  # learning rate of biases relative to BASE_LR
_C.SOLVER.BODY_LR_FACTOR = 1.0  # factor on the learning rates of the backbone's body
_C.SOLVER.MOMENTUM = 0.9  # of SGD
_C.SOLVER.WEIGHT_DECAY = 0.0005  # of all parameters but biases
_C.SOLVER.WEIGHT_DECAY_BIAS = 0.0  # of biases
_C.SOLVER.WEIGHT_DECAY_NORM = -1.0  # of the weights of norms; below 0: WEIGHT_DECAY
_C.SOLVER.GAMMA = 0.1  # factor on the learning rate at each step
_C.SOLVER.STEPS = (30000,)  # iterations at which the learning rate falls
_C.SOLVER.WARMUP_FACTOR = 1.0 / 3  # share of the learning rate at the first iteration
_C.SOLVER.WARMUP_ITERS = 500  # iterations until the full learning rate
_C.SOLVER.WARMUP_METHOD = "linear"  # or "constant"
_C.SOLVER.CHECKPOINT_PERIOD = 2500  # iterations between checkpoints
_C.SOLVER.TEST_PERIOD = 0  # iterations between evaluations; 0: only at the end
_C.SOLVER.IMS_PER_BATCH = 16  # images per iteration over all processes
_C.SOLVER.REFERENCE_BATCH = 16  # IMS_PER_BATCH that the schedule is made for; 0: do not scale it
_C.SOLVER.OPTIMIZER = "SGD"  # or "ADAMW"
_C.SOLVER.SCHEDULE = "multistep"  # how the learning rate falls: at STEPS, or "cosine" to the end
_C.SOLVER.SCHEDULE_NAME = ""  # Detectron's "1x", "s1x", "2x", "3x" in place of MAX_ITER and STEPS
_C.SOLVER.MAX_EPOCH = 0  # > 0: in place of MAX_ITER; STEPS and the periods are epochs then, too
_C.SOLVER.CLIP_GRADIENTS = 0.0  # largest norm of all gradients together; 0: no limit
_C.SOLVER.ACCUMULATE = 1  # parts in which an iteration's images go through the model; saves memory
_C.SOLVER.EMA_DECAY = 0.0  # > 0, such as 0.999: evaluate and save an average over the iterations
_C.SOLVER.KEEP_CHECKPOINTS = 0  # keep the last K periodic checkpoints; 0: all
_C.SOLVER.LOG_PERIOD = 20  # iterations between log lines

_C.TEST = CN()
# Scores to meet on every data set, else the test fails: [task, metric, [mean, std]] of 0..1, as
# maskrcnn-benchmark has it, or detectron2's ["bbox", "AP", 37.8, 0.2]: percent, tolerance;
_C.TEST.EXPECTED_RESULTS = []  # by default none
_C.TEST.EXPECTED_RESULTS_SIGMA_TOL = 4.0  # standard deviations by which it may miss a mean
_C.TEST.KEYPOINT_OKS_SIGMAS = []  # tolerance per keypoint relative to object size; []: COCO's 17
_C.TEST.IMS_PER_BATCH = 8  # read by nothing: images are tested one by one, or by --batch-size
_C.TEST.DETECTIONS_PER_IMG = 100  # cap of RetinaNet, YOLOF; R-CNN's is ROI_HEADS.DETECTIONS_PER_IMG

_C.TEST.SOFT_NMS = CN()
_C.TEST.SOFT_NMS.ENABLED = False  # the box head's NMS lowers scores instead of dropping boxes
_C.TEST.SOFT_NMS.METHOD = "linear"  # or "gaussian"; "hard" is plain NMS
_C.TEST.SOFT_NMS.SIGMA = 0.5  # width of "gaussian"
_C.TEST.SOFT_NMS.MIN_SCORE = 0.0001  # detections whose lowered score is below this are dropped

_C.TEST.BBOX_VOTE = CN()
_C.TEST.BBOX_VOTE.ENABLED = False  # boxes become the mean of those around, weighted by score
_C.TEST.BBOX_VOTE.VOTE_TH = 0.8  # IoU from which a box votes
_C.TEST.BBOX_VOTE.SCORING_METHOD = "ID"  # new score; see modeling/suppression.py for the others
_C.TEST.BBOX_VOTE.SCORING_METHOD_BETA = 1.0  # exponent or temperature of some of them

_C.TEST.BBOX_AUG = CN()
_C.TEST.BBOX_AUG.ENABLED = False  # test-time augmentation: boxes are found on several images
_C.TEST.BBOX_AUG.H_FLIP = False  # also the mirrored image
_C.TEST.BBOX_AUG.SCALES = ()  # also these shorter sides
_C.TEST.BBOX_AUG.MAX_SIZE = 4000  # cap on the longer side for SCALES
_C.TEST.BBOX_AUG.SCALE_H_FLIP = False  # also mirrored at each of SCALES
_C.TEST.BBOX_AUG.ASPECT_RATIOS = ()  # also with the width multiplied by these
_C.TEST.BBOX_AUG.ASPECT_RATIO_H_FLIP = False  # also mirrored with each of ASPECT_RATIOS
_C.TEST.BBOX_AUG.SCORE_HEUR = "UNION"  # all boxes of all images; Detectron's others are refused
_C.TEST.BBOX_AUG.COORD_HEUR = "UNION"  # the same of coordinates

_C.TEST.MASK_AUG = CN()
_C.TEST.MASK_AUG.ENABLED = False  # masks are a mean over several images; else of the plain one
_C.TEST.MASK_AUG.HEUR = "SOFT_AVG"  # mean of probabilities; "SOFT_MAX", "LOGIT_AVG"
_C.TEST.MASK_AUG.H_FLIP = False  # this key and the following: as of BBOX_AUG
_C.TEST.MASK_AUG.SCALES = ()  # as of BBOX_AUG
_C.TEST.MASK_AUG.MAX_SIZE = 4000  # as of BBOX_AUG
_C.TEST.MASK_AUG.SCALE_H_FLIP = False  # as of BBOX_AUG
_C.TEST.MASK_AUG.ASPECT_RATIOS = ()  # as of BBOX_AUG
_C.TEST.MASK_AUG.ASPECT_RATIO_H_FLIP = False  # as of BBOX_AUG

_C.TEST.KPS_AUG = CN()
_C.TEST.KPS_AUG.ENABLED = False  # heat maps are a mean over several images; else of the plain one
_C.TEST.KPS_AUG.HEUR = "HM_AVG"  # mean of the heat maps' logits; "HM_MAX"
_C.TEST.KPS_AUG.SCALE_SIZE_DEP = False  # small objects enlarged only, large ones reduced only
_C.TEST.KPS_AUG.AREA_TH = 32400  # square pixels of the original image from which one is large
_C.TEST.KPS_AUG.H_FLIP = False  # this key and the following: as of BBOX_AUG
_C.TEST.KPS_AUG.SCALES = ()  # as of BBOX_AUG
_C.TEST.KPS_AUG.MAX_SIZE = 4000  # as of BBOX_AUG
_C.TEST.KPS_AUG.SCALE_H_FLIP = False  # as of BBOX_AUG
_C.TEST.KPS_AUG.ASPECT_RATIOS = ()  # as of BBOX_AUG
_C.TEST.KPS_AUG.ASPECT_RATIO_H_FLIP = False  # as of BBOX_AUG

_C.OUTPUT_DIR = "."  # where results and checkpoints go
_C.PATHS_CATALOG = ""  # Python file with DatasetCatalog and ModelCatalog; "": the library's own
_C.DTYPE = "float32"  # "float32", "bfloat16" or "float16" (autocast)
_C.SEED = 0  # of the initial weights and of every random choice in training
_C.DETERMINISTIC = False  # refuse GPU algorithms whose results differ from run to run; slower
_C.AMP_VERBOSE = False  # read by nothing; kept for old files


def default_config() -> CN:
    """A new tree with every key at its default."""
    return _C.clone()
