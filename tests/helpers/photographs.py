"""Small synthetic fundus photographs in the layouts of the data sets."""

import numpy as np
from PIL import Image


def photograph(random, size=(44, 40)):
    """Colour image, vessels and field of view: ``(H, W, 3)`` and twice ``(H, W)``, uint8; vessels are dark lines."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(float)
    centre = (height - 1) / 2, (width - 1) / 2
    mask = np.hypot(y - centre[0], x - centre[1]) < min(size) / 2 - 1
    vessels = np.zeros(size, bool)
    for _ in range(3):
        angle, offset = random.uniform(0, np.pi), random.uniform(-6, 6)
        vessels |= np.abs((y - centre[0]) * np.cos(angle) + (x - centre[1]) * np.sin(angle) - offset) < 1.2
    vessels &= mask
    brightness = np.where(mask, 150 + 20 * x / width, 4) - 60.0 * vessels + random.normal(0, 3, size)
    image = np.stack([brightness * factor for factor in (1.0, 0.7, 0.3)], axis=-1)
    return image.clip(0, 255).astype(np.uint8), vessels.astype(np.uint8) * 255, mask.astype(np.uint8) * 255


def _save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_drive(folder, size=(44, 40)):
    """DRIVE as it is downloaded."""
    random = np.random.RandomState(0)
    for number in range(1, 41):
        half = "test" if number <= 20 else "training"
        image, label, mask = photograph(random, size)
        _save(image, folder / half / "images" / f"{number:02d}_{half}.tif")
        _save(label, folder / half / "1st_manual" / f"{number:02d}_manual1.gif")
        _save(mask, folder / half / "mask" / f"{number:02d}_{half}_mask.gif")
        if half == "test":
            _save(np.roll(label, 1, 0) // 255, folder / half / "2nd_manual" / f"{number:02d}_manual2.gif")
    return folder


def write_chase(folder, size=(44, 46)):
    """CHASE_DB1 as it is downloaded: all files in one folder, and no masks."""
    random = np.random.RandomState(1)
    for child in range(1, 15):
        for side in "LR":
            image, label, _ = photograph(random, size)
            name = f"Image_{child:02d}{side}"
            _save(image, folder / f"{name}.jpg")
            _save(label > 0, folder / f"{name}_1stHO.png")
            _save(np.roll(label > 0, 1, 0), folder / f"{name}_2ndHO.png")
    return folder


def write_stare(folder, count=3):
    """Some of STARE: photographs and one observer's labels."""
    random = np.random.RandomState(2)
    for number in range(count):
        image, label, _ = photograph(random)
        _save(image, folder / "stare-images" / f"im{number:04d}.ppm")
        _save(label, folder / "labels-ah" / f"im{number:04d}.ah.ppm")
    return folder


def write_prime(folder, count=10):
    """PRIME-FP20 in three folders."""
    random = np.random.RandomState(3)
    for number in range(count):
        for kind, array in zip(("images", "labels", "masks"), photograph(random), strict=True):
            _save(array, folder / kind / f"{number:02d}.png")
    return folder


WRITERS = {"drive": write_drive, "chase_db1": write_chase, "stare": write_stare, "prime_fp20": write_prime}
