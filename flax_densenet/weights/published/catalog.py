"""The table of published weights: address, checksum, classes, pixels, licence and accuracy of each.

A checksum is here if it was found in several unrelated places, or with the publisher. Of one that a
single place gives, only the digits in the file's name are here; where there are none, it is left
out, and the size is the check.
"""

import json
from pathlib import Path
from typing import NamedTuple

from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.images.imagenet import STATISTICS
from flax_densenet.data.outputs import Outputs
from flax_densenet.data.preparation import Preparation
from flax_densenet.download import Checksum, RemoteFile
from flax_densenet.weights.published.classes import class_names

_CIFAR_STATISTICS = ChannelStatistics(
    (0.4914 * 255, 0.4822 * 255, 0.4465 * 255), (0.2023 * 255, 0.1994 * 255, 0.2010 * 255)
)


def _preparation(
    statistics: ChannelStatistics, size: int, shorter_side: int, interpolation: str = "bilinear"
) -> Preparation:
    mean, std = statistics
    return Preparation(
        size=size,
        shorter_side=shorter_side,
        interpolation=interpolation,  # type: ignore[arg-type]
        mean=mean,
        std=std,
    )


_AS_TORCHVISION = _preparation(STATISTICS, 224, 256)
_AS_TIMM = _preparation(STATISTICS, 224, 256, "bicubic")
_AS_CIFAR = _preparation(_CIFAR_STATISTICS, 32, 32)
# The middle is cut out and brought to 224 pixels, which then run from -1024 to 1024.
XRAY_PREPARATION = _preparation(ChannelStatistics((127.5,), (127.5 / 1024,)), 224, 224)
XRAY_CLASSES = "torchxrayvision"


class Published(NamedTuple):
    """Weights that someone has published.

    Attributes:
      files: The file, and others with the same weights, such as its copies elsewhere; they are
        looked for and downloaded in this order.
      network: The network, in the publisher's words.
      class_set: Key of `CLASS_SETS`.
      preparation: How images were prepared where the accuracy was measured.
      accuracy: What is published of it, and by whom.
      licence: Terms of the weights. The data that they were trained on may have others.
      outputs: How the outputs are read.
    """

    files: tuple[RemoteFile, ...]
    network: str
    class_set: str
    preparation: Preparation
    accuracy: str
    licence: str
    outputs: Outputs = Outputs()

    @property
    def names(self) -> tuple[str, ...]:
        """One name for each class; "" for an output that was not trained."""
        names = class_names(self.class_set)
        is_trained = self.outputs.is_trained
        return tuple(name if is_trained(index) else "" for index, name in enumerate(names))


def _sha256(digits: str) -> Checksum:
    return Checksum("sha256", digits)


_TORCHVISION = "https://download.pytorch.org/models"


def _torchvision(depth: int, digits: str, size: int, accuracy: str) -> Published:
    name = f"densenet{depth}-{digits[:8]}.pth"
    return Published(
        (RemoteFile(f"{_TORCHVISION}/{name}", name, size, _sha256(digits)),),
        f"DenseNet-{depth}",
        "imagenet",
        _AS_TORCHVISION,
        f"{accuracy} % top-1 / top-5 of ImageNet (torchvision)",
        "BSD-3-Clause",
    )


HUB = "https://huggingface.co"
_TIMM_ASSETS = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"


def _timm(
    name: str, commit: str, accuracy: str, *others: RemoteFile, digits: str = ""
) -> Published:
    checksum = _sha256(digits) if digits else None
    file = RemoteFile(
        f"{HUB}/timm/{name}/resolve/{commit}/model.safetensors",
        f"{name}.safetensors",
        checksum=checksum,
    )
    return Published(
        (file, *others),
        f"DenseNet-{name[8:11]}",
        "imagenet",
        _AS_TIMM,
        f"{accuracy} % top-1 / top-5 of ImageNet (timm, results-imagenet.csv)",
        "Apache-2.0",
    )


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/densenet"
_KERAS_MIRROR = "https://github.com/keras-team/keras-applications/releases/download/densenet"


def _keras(depth: int, md5: str, accuracy: str) -> Published:
    name = f"densenet{depth}_weights_tf_dim_ordering_tf_kernels.h5"
    return Published(
        tuple(
            RemoteFile(f"{place}/{name}", name, checksum=Checksum("md5", md5))
            for place in (_KERAS, _KERAS_MIRROR)
        ),
        f"DenseNet-{depth}",
        "imagenet",
        _AS_TORCHVISION,
        f"{accuracy} % top-1 / top-5 of ImageNet (keras-applications)",
        "BSD-3-Clause",
    )


# Since these lie in the library's source, and not in its files of weights.
_OPERATING_POINTS = json.loads((Path(__file__).parent / "operating_points.json").read_text())
_XRAY = "https://github.com/mlmed/torchxrayvision/releases/download/v1"


def _xray(
    name: str, stem: str, trained: str, size: int | None = None, digits: str = ""
) -> Published:
    file = f"{stem}-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
    checksum = _sha256(digits) if digits else None
    return Published(
        tuple(
            RemoteFile(url, file, size, checksum)
            for url in (
                f"{_XRAY}/{file}",
                f"{HUB}/torchxrayvision/densenet121-res224-{name}/resolve/main/model.pt",
            )
        ),
        "DenseNet-121, 1 channel",
        XRAY_CLASSES,
        XRAY_PREPARATION,
        f"several findings at once; {trained} of 18 outputs are trained",
        "Apache-2.0",
        Outputs(
            reading="several_labels",
            operating_points=tuple(_OPERATING_POINTS[f"densenet121-res224-{name}"]),
        ),
    )


_PYTORCHCV = "https://github.com/osmr/imgclsmob/releases/download"
_CLASS_SETS_OF = {"cifar10": "cifar10", "cifar100": "cifar100", "svhn": "svhn"}


def _pytorchcv(name: str, error: str, sha1: str, version: int) -> Published:
    file = f"{name}-{error}-{sha1[:8]}.pth"
    url = f"{_PYTORCHCV}/v0.0.{version}/{file}.zip"
    data = _CLASS_SETS_OF.get(name.rpartition("_")[2])
    percent = f"{int(error) / 100:.2f}"
    return Published(
        (RemoteFile(url, file, None, Checksum("sha1", sha1), is_packed=True),),
        name if data is None else name.removesuffix(f"_{data}"),
        data or "imagenet",
        _AS_CIFAR if data else _AS_TORCHVISION,
        f"{percent} % {'error' if data else 'top-5 error'} on {data or 'ImageNet'} (imgclsmob)",
        "MIT",
    )


_PYTORCHCV_ROWS = (
    ("densenet121", "0704", "cf90d1394d197fde953f57576403950345bd0a66", 314),
    ("densenet161", "0606", "da489277afe7f53048ec15bed7919486e22f1afa", 432),
    ("densenet169", "0629", "44974a17309bb378e97c8f70f96f961ffbf9458d", 406),
    ("densenet201", "0612", "6adc8625a4afa53e335272bab01b4908a0ca3f00", 426),
    ("densenet40_k12_cifar10", "0561", "8b8e819467a2e4c450e4ff72ced80582d0628b68", 193),
    ("densenet40_k12_cifar100", "2490", "d182c224d6df2e289eef944d54fea9fd04890961", 195),
    ("densenet40_k12_svhn", "0305", "ac0de84a1a905b768c66f0360f1fb9bd918833bf", 278),
    ("densenet40_k12_bc_cifar10", "0643", "6dc86a2ea1d088f088462f5cbac06cc0f37348c0", 231),
    ("densenet40_k12_bc_cifar100", "2841", "1e9db7651a21e807c363c9f366bd9e91ce2f296f", 232),
    ("densenet40_k12_bc_svhn", "0320", "320760528b009864c68ff6c5b874e9f351ea7a07", 279),
    ("densenet40_k24_bc_cifar10", "0452", "669c525548a4a2392c5e3c380936ad019f2be7f9", 220),
    ("densenet40_k24_bc_cifar100", "2267", "411719c0177abf58eddaddd05511c86db0c9d548", 221),
    ("densenet40_k24_bc_svhn", "0290", "f4440d3b8c974c9e1014969f4d5832c6c90195d5", 280),
    ("densenet40_k36_bc_cifar10", "0404", "b1a4cc7e67db1ed8c5583a59dc178cc7dc2c572e", 224),
    ("densenet40_k36_bc_cifar100", "2050", "cde836fafec1e5d6c8ed69fd3cfe322e8e71ef1d", 225),
    ("densenet40_k36_bc_svhn", "0260", "8c7db0a291a0797a8bc3c709bff7917bc41471cc", 311),
    ("densenet100_k12_cifar10", "0366", "26089c6e70236e8f25359de6fda67b84425888ab", 205),
    ("densenet100_k12_cifar100", "1964", "5e10cd830c06f6ab178e9dd876c83c754ca63f00", 206),
    ("densenet100_k12_svhn", "0260", "57fde50e9f44edc0486b62a1144565bc77d5bdfe", 311),
    ("densenet100_k24_cifar10", "0313", "397f0e39b517c05330221d4f3a9755eb5e561be1", 252),
    ("densenet100_k24_cifar100", "1808", "1c0a8067283952709d8e09c774c3a404f51e0079", 318),
    ("densenet100_k12_bc_cifar10", "0416", "b9232829b13c3f3f2ea15f4be97f500b7912c3c2", 189),
    ("densenet100_k12_bc_cifar100", "2119", "05a6f02772afda51a612f5b92aadf19ffb60eb72", 208),
    ("densenet190_k40_bc_cifar10", "0252", "2896fa088aeaef36fcf395d404d97ff172d78943", 286),
    ("densenet250_k24_bc_cifar10", "0267", "f8f9d3052bae1fea7e33bb1ce143c38b4aa5622b", 290),
    ("densenet250_k24_bc_cifar100", "1739", "09ac3e7d9fbe6b97b170bd838dac20ec144b4e49", 303),
)

PUBLISHED: dict[str, Published] = {
    "torchvision/densenet121": _torchvision(
        121,
        "a639ec97d7c33b07ae66f0b5fb7d0192f95a3b11b7576c66c0126c2a727c4395",
        32_342_954,
        "74.434 / 91.972",
    ),
    "torchvision/densenet161": _torchvision(161, "8d451a50", 115_730_790, "77.138 / 93.560"),
    "torchvision/densenet169": _torchvision(169, "b2777c0a", 57_365_526, "75.600 / 92.806"),
    "torchvision/densenet201": _torchvision(201, "c1103571", 81_131_730, "76.896 / 93.370"),
    "timm/densenet121.ra_in1k": _timm(
        "densenet121.ra_in1k",
        "e65bed9f92a2e438879b179438d22ed719be26d6",
        "75.574 / 92.648",
        RemoteFile(
            f"{_TIMM_ASSETS}/densenet121_ra-50efcf5c.pth",
            "densenet121_ra-50efcf5c.pth",
            32_376_726,
            _sha256("50efcf5c"),
        ),
    ),
    "timm/densenet121.tv_in1k": _timm(
        "densenet121.tv_in1k",
        "main",
        "74.750 / 92.158",
        digits="c894c6d9caa317a8ca1942986dee7a16a86c77734a4d691d2abe05389cfef358",
    ),
    "timm/densenet161.tv_in1k": _timm(
        "densenet161.tv_in1k", "359c7ecf29a2da61381f4725fe59889ca80ad29b", "77.384 / 93.656"
    ),
    "timm/densenet169.tv_in1k": _timm(
        "densenet169.tv_in1k", "8c033a1f91d746e37e23229bf0445fff2125c89e", "75.922 / 92.976"
    ),
    "timm/densenet201.tv_in1k": _timm("densenet201.tv_in1k", "main", "77.284 / 93.480"),
    "keras/densenet121": _keras(121, "9d60b8095a5708f2dcce2bca79d332c7", "74.972 / 92.258"),
    "keras/densenet169": _keras(169, "d699b8f76981ab1b30698df4c175e90b", "76.176 / 93.176"),
    "keras/densenet201": _keras(201, "1ceb130c1ea1b78c3bf6114dbdfd8807", "77.320 / 93.620"),
    "xrv/densenet121-res224-all": _xray(
        "all",
        "nih-pc-chex-mimic_ch-google-openi-kaggle",
        "all",
        28_382_008,
        "56524913dd16a906422e8d8b66a7a5c46be1d82eb7ac012d8103776f1aa68899",
    ),
    "xrv/densenet121-res224-nih": _xray("nih", "nih", "the first 14"),
    "xrv/densenet121-res224-pc": _xray(
        "pc",
        "pc",
        "the first 14 and Fracture",
        28_381_804,
        "a9148ef62ae4e7a31a9bed8cef22811f39681cd61e4390398936efc6280af521",
    ),
    "xrv/densenet121-res224-chex": _xray("chex", "chex", "11", 28_381_998),
    "xrv/densenet121-res224-rsna": _xray(
        "rsna",
        "kaggle",
        "Pneumonia and Lung Opacity",
        28_381_974,
        "906a59f48cf09638b745d66848a6c6f9d741368c66244717a81207329d140268",
    ),
    "xrv/densenet121-res224-mimic_nb": _xray("mimic_nb", "mimic_nb", "11"),
    "xrv/densenet121-res224-mimic_ch": _xray(
        "mimic_ch",
        "mimic_ch",
        "11",
        28_382_012,
        "23b13a04459684ffa41247d068207a7657b4e1b4dec2b02431f5026bd75b1189",
    ),
    **{f"pytorchcv/{row[0]}": _pytorchcv(*row) for row in _PYTORCHCV_ROWS},
}

# What `create(NAME, pretrained=True)` takes: weights of the paper's own network alone.
USUAL: dict[str, str] = {
    **{f"densenet{depth}": f"torchvision/densenet{depth}" for depth in (121, 161, 169, 201)},
    "densenet-bc-100-12": "pytorchcv/densenet100_k12_bc_cifar10",
    "densenet-bc-190-40": "pytorchcv/densenet190_k40_bc_cifar10",
    "densenet-bc-250-24": "pytorchcv/densenet250_k24_bc_cifar10",
}
