"""Every kind of sample in every container through every reader: the stored values, or a refusal that names the cure.

docs/sample-types.md is compared with what is found; `pytest tests/data/test_sample_types.py -n 0 --sample-types
docs/sample-types.md` writes its tables anew.
"""

import functools
import io
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import picture_bytes as by_hand
import pytest
from PIL import Image

from segzoo.data import ImageReader, Labels, create_format
from segzoo.data.formats.pictures import read_indices
from segzoo.data.images import ARRAY_SUFFIXES, PICTURE_SUFFIXES
from segzoo.errors import DataError

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

PAGE = Path(__file__).parents[2] / "docs" / "sample-types.md"
HEIGHT, WIDTH = 9, 19
RNG = np.random.default_rng(0)
CONTAINERS = ("PNG", "JPEG", "BMP", "GIF", "WebP", "TIFF", "npy, npz")
ENDINGS = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp", "GIF": ".gif", "WebP": ".webp", "TIFF": ".tif"}
READERS = {
    "images": "Images",
    "bands": "Images by `data.bands`",
    "masks": "Masks of class indices: `masks: index`, of arrays `masks: array`",
}
# Ways to lay out the same TIFF: order of bytes, BigTIFF, strips, tiles, bands apart, compression, orientation
LAYOUTS = {
    "plain": {},
    "big-endian": {"order": ">"},
    "BigTIFF": {"big": True},
    "big-endian BigTIFF": {"order": ">", "big": True},
    "strips": {"rows": 4},
    "tiles": {"tile": 16},
    "Deflate": {"deflate": True},
    "big-endian, Deflate": {"order": ">", "deflate": True},
    "orientation": {"orientation": 6},
    "band after band": {"planar": True},
    "band after band in tiles": {"planar": True, "tile": 16, "deflate": True},
}
CHUNKY = {name: layout for name, layout in LAYOUTS.items() if "planar" not in layout}
OF_PILLOW = {name: layout for name, layout in CHUNKY.items() if name != "big-endian BigTIFF"}


class Became(NamedTuple):
    """Samples as a reader returns them: in words, and the values, which are off by at most `within`."""

    words: str
    values: np.ndarray
    within: float = 0


class Refused(NamedTuple):
    """A message that a reader refuses samples by."""

    pattern: str


class Case(NamedTuple):
    """Files that hold the same samples, by who wrote them, and what each reader makes of them."""

    samples: str
    container: str
    files: dict[str, bytes]
    images: Became | Refused
    bands: Became | Refused
    masks: Became | Refused


CASES: list[Case] = []
PALETTE = Refused("has a palette, so its channels are no bands.*Leave data.bands out")
COLOURED = Refused("must hold class indices, but this one is a colour picture.*data.masks: {format: rgb")
LOSSY = Refused("lossy compression changes values.*Write the mask without loss, as PNG")
DEEP = Refused("colours of 16 bits, of which Pillow reads the upper 8. Write the mask with 8 bits")
CHANNELS = Refused(r"is a mask that is a TIFF of \d channels.*Write it as PNG, with one channel")
CLEAR = Refused("pixels of the mask are transparent.*Write it with one channel")
WHITE_IS_ZERO = Refused("a TIFF in which 0 is white, so its values may be meant inverted. Write it anew")
SEVERAL = Refused(r"has 2 (frames|pages), and which of them is meant.*Write each that is wanted into a file of its own")
NO_ARRAY = Refused(r"a mask of shape .*, where \(H, W\) is due")


def case(samples, container, files, images, bands=None, masks=COLOURED) -> None:
    CASES.append(Case(samples, container, files, images, bands or images, masks))


def numbers(bits, *channels, dtype=None) -> np.ndarray:
    dtype = dtype or (np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)
    return RNG.integers(0, 2**bits, (HEIGHT, WIDTH, *channels), dtype)


def gradient() -> np.ndarray:
    """Colours that change slowly, so that JPEG keeps them to a few levels, also where it halves their resolution."""
    y, x = np.mgrid[:32, :48].astype(float)
    return np.stack([20 + 4 * x, 200 - 3 * y, 60 + x + 2 * y], -1).round().astype(np.uint8)


def blocks(*channels) -> np.ndarray:
    """Squares of 16 pixels of one value, which JPEG keeps to a level or two where it halves nothing."""
    return np.kron(
        RNG.integers(0, 256, (2, 3, *channels), np.uint8), np.ones((16, 16, *(1 for _ in channels)), np.uint8)
    )


def pillow(picture, format, **options) -> bytes:
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, format, **options)
    return stream.getvalue()


def opencv(array, ending) -> bytes:
    return cv2.imencode(ending, array[..., [2, 1, 0, 3][: array.shape[2]]] if array.ndim == 3 else array)[1].tobytes()


def gdal(array, **options) -> bytes:
    bands = array[..., None] if array.ndim == 2 else array
    shape = {"height": bands.shape[0], "width": bands.shape[1], "count": bands.shape[2], "dtype": bands.dtype}
    with rasterio.MemoryFile() as file:
        with file.open(driver="GTiff", **shape, **options) as raster:
            raster.write(bands.transpose(2, 0, 1))
        return file.read()


def tiffs(stored, bits=None, layouts=LAYOUTS, **options) -> dict[str, bytes]:
    return {f"by hand, {name}": by_hand.tiff(stored, bits, **options, **layout) for name, layout in layouts.items()}


def pngs(stored, bits=8, palette=b"", chunks=()) -> dict[str, bytes]:
    made = {"": False, ", interlaced": True}
    return {f"by hand{name}": by_hand.png(stored, bits, palette, woven, chunks) for name, woven in made.items()}


def arrays(array) -> dict[str, bytes]:
    files = {}
    swapped = array.astype(array.dtype.newbyteorder(">"))
    for name, save, held in (
        (".npy", np.save, array), (".npz", np.savez, array), ("packed.npz", np.savez_compressed, array),
        ("big-endian.npy", np.save, swapped), ("columns.npy", np.save, np.asfortranarray(array)),
    ):  # fmt: skip
        stream = io.BytesIO()
        save(stream, held)
        files[name] = stream.getvalue()
    return files


def as_stored(array) -> Became:
    return Became("as stored", array)


def grey_cases() -> None:
    for bits in (1, 2, 4):
        grey = numbers(bits)
        stretched = Became("stretched to 0..255", grey * np.uint8(255 // (2**bits - 1)))
        name = f"grey, {bits} bit{'s' if bits > 1 else ''}"
        by_pillow = {"Pillow": pillow(grey.astype(bool), "PNG")} if bits == 1 else {}
        case(name, "PNG", {**pngs(grey, bits), **by_pillow}, stretched, masks=as_stored(grey))
        files = {
            **tiffs(grey, bits),
            "GDAL": gdal(grey, nbits=bits),
            "GDAL, LZW": gdal(grey, nbits=bits, compress="LZW"),
        }
        if bits == 1:
            for compression in (None, "group4", "tiff_lzw"):
                files[f"Pillow, {compression}"] = pillow(grey.astype(bool), "TIFF", compression=compression)
            files["GDAL, fax"] = gdal(grey, nbits=1, compress="CCITTFAX4")
            black_white = by_hand.bmp(grey, 1, [(0, 0, 0), (255, 255, 255)])
            case(name, "BMP", {"by hand": black_white}, stretched, PALETTE, as_stored(grey))
        case(name, "TIFF", files, stretched, as_stored(grey), as_stored(grey))

    grey = numbers(8)
    same = as_stored(grey)
    thrice = Became("as stored, three times", np.repeat(grey[..., None], 3, 2))
    files = {"Pillow": pillow(grey, "PNG"), "OpenCV": opencv(grey, ".png"), **pngs(grey)}
    gamma = [by_hand.png_chunk(b"gAMA", b"\0\1\x86\xa0"), by_hand.png_chunk(b"sBIT", b"\5")]
    case("grey, 8 bits", "PNG", {**files, "gamma": by_hand.png(grey, chunks=gamma)}, same, masks=same)
    squares = blocks()
    files = {"Pillow": pillow(squares, "JPEG", quality=95), "progressive": pillow(squares, "JPEG", progressive=True)}
    case("grey, 8 bits", "JPEG", files, Became("as stored", squares, 4), masks=LOSSY)
    case("grey, 8 bits", "BMP", {"Pillow": pillow(grey, "BMP")}, same, PALETTE, same)
    case("grey, 8 bits", "GIF", {"Pillow": pillow(grey, "GIF")}, same, PALETTE, same)
    case("grey, 8 bits", "WebP", {"Pillow": pillow(grey, "WEBP", lossless=True)}, thrice, masks=same)
    written = {f"Pillow, {name}": pillow(grey, "TIFF", compression=name) for name in (None, "tiff_lzw", "packbits")}
    written |= {f"GDAL, {name}": gdal(grey, compress=name) for name in (None, "LZW", "ZSTD", "LERC")}
    lossless = {name: data for name, data in written.items() if "LERC" not in name}
    case("grey, 8 bits", "TIFF", {**tiffs(grey), **lossless, "OpenCV": opencv(grey, ".tif")}, same, masks=same)
    case("grey, 8 bits, compressed by LERC", "TIFF", {"GDAL": written["GDAL, LERC"]}, same, masks=LOSSY)
    files = {
        "Pillow": pillow(squares, "TIFF", compression="jpeg", quality=95),
        "GDAL": gdal(squares, compress="JPEG", jpeg_quality=95),
    }
    case("grey, 8 bits, compressed by JPEG", "TIFF", files, Became("as stored", squares, 4), masks=LOSSY)
    case("grey, 8 bits", "npy, npz", arrays(grey), same, masks=same)

    for bits in (10, 12, 14):
        grey = numbers(bits)
        files = {**tiffs(grey, bits), "GDAL": gdal(grey, nbits=bits), "GDAL, tiles": gdal(grey, nbits=bits, tiled=True)}
        case(f"grey, {bits} bits, packed", "TIFF", files, as_stored(grey), masks=as_stored(grey))
    grey = numbers(16)
    same = as_stored(grey)
    files = {"Pillow": pillow(grey, "PNG"), "OpenCV": opencv(grey, ".png"), **pngs(grey, 16)}
    case("grey, 16 bits", "PNG", files, same, masks=same)
    files = {**tiffs(grey), "Pillow": pillow(grey, "TIFF"), "OpenCV": opencv(grey, ".tif"), "GDAL": gdal(grey),
             "GDAL, differences": gdal(grey, compress="LZW", predictor=2)}  # fmt: skip
    case("grey, 16 bits", "TIFF", files, same, masks=same)
    for bits, cure in ((6, "Write it with 8 bits, or name its bands"), (24, "Write it with 8, 16, 32 or 64 bits")):
        odd = Refused(f"has samples of {bits} bits.*{cure}")
        grey = numbers(bits)
        case(f"grey, {bits} bits", "TIFF", tiffs(grey, bits), odd, as_stored(grey) if bits == 6 else odd, odd)
    for bits in (1, 8, 12, 16):
        grey = numbers(bits)
        dark = (2**bits - 1 - grey).astype(grey.dtype)
        shown = Became("turned round", dark * np.uint8(255) if bits == 1 else dark)
        masks = Became("turned round", dark) if bits == 1 else WHITE_IS_ZERO
        name = f"white is zero, {bits} bit{'s' if bits > 1 else ''}"
        case(name, "TIFF", tiffs(grey, bits, photometric=0), shown, as_stored(grey), masks)


def number_cases() -> None:
    for name in (
        "int8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "float32",
        "float64",
        "bool",
    ):
        dtype = np.dtype(name)
        low = 0 if dtype.kind in "ub" else -100
        held = RNG.integers(low, 2 if name == "bool" else 100, (HEIGHT, WIDTH)).astype(dtype)
        whole = Became("as stored", held.astype(np.int64))
        case(name, "npy, npz", arrays(held), as_stored(held), masks=whole)
        if name in ("bool", "uint16"):
            continue
        files = {**tiffs(held), "GDAL": gdal(held)} if name != "float16" else tiffs(held)
        if name in ("int32", "float32"):
            files["Pillow"] = pillow(held, "TIFF")
            files["Pillow, LZW"] = pillow(held, "TIFF", compression="tiff_lzw")
        if name == "float32":
            files["GDAL, differences"] = gdal(held, compress="DEFLATE", predictor=3)
        read = as_stored(held.astype(np.float32)) if name == "float16" else as_stored(held)
        case(name, "TIFF", files, read, masks=whole)
    for name in ("float32", "float64"):
        held = RNG.standard_normal((HEIGHT, WIDTH)).astype(name)
        fractions = Refused("values of the mask are no whole numbers.*write the mask again without smoothing")
        case(f"{name}, fractions", "TIFF", tiffs(held), as_stored(held), masks=fractions)
        case(f"{name}, fractions", "npy, npz", arrays(held), as_stored(held), masks=fractions)
    wrong = np.zeros((HEIGHT, WIDTH), np.float32)
    wrong[2, 3:5], wrong[4, 4] = np.nan, np.inf
    finite = Refused("2 NaN and 1 infinite values in 3 of 171 pixels.*write numbers in their place")
    case("NaN, infinite", "TIFF", tiffs(wrong), finite, masks=Refused("are no whole numbers.*Labels are whole numbers"))
    case("NaN, infinite", "npy, npz", arrays(wrong), finite, masks=finite)
    imaginary = np.full((HEIGHT, WIDTH), 1 + 2j, np.complex64)
    refused = Refused("holds complex numbers.*Write their magnitude")
    case("complex", "TIFF", tiffs(imaginary), refused, masks=refused)
    refused = Refused("holds complex numbers.*Save plain numbers")
    case("complex", "npy, npz", arrays(imaginary), refused, masks=refused)
    text = np.full((HEIGHT, WIDTH), "a")
    refused = Refused("holds text.*Save plain numbers")
    case("text", "npy, npz", arrays(text), refused, masks=refused)
    for dtype in (np.uint8, np.uint16, np.int16, np.float32):
        held = RNG.integers(0, 100, (HEIGHT, WIDTH, 5)).astype(dtype)
        name = f"5 bands of {np.dtype(dtype)}"
        files = {
            **tiffs(held, photometric=1, extra=(0,) * 4),
            "GDAL": gdal(held),
            "GDAL, tiles": gdal(held, tiled=True),
        }
        case(name, "TIFF", files, as_stored(held), masks=CHANNELS)
        case(name, "npy, npz", arrays(held), as_stored(held), masks=NO_ARRAY)


def colour_cases() -> None:
    for bits in (8, 16):
        for channels, name in ((2, "grey and alpha"), (3, "RGB"), (4, "RGBA")):
            held = numbers(bits, channels)
            same, name = as_stored(held), f"{name}, {bits} bits"
            masks = DEEP if bits == 16 else CLEAR if channels == 2 else COLOURED
            files = pngs(held, bits)
            if bits == 8:
                files["Pillow"] = pillow(held, "PNG")
            if channels > 2:
                files["OpenCV"] = opencv(held, ".png")
            case(name, "PNG", files, same, masks=masks)
            extra = (2,) if channels != 3 else ()
            files = tiffs(held, bits, extra=extra, photometric=1 if channels == 2 else 2, layouts=OF_PILLOW)
            if bits == 8:
                files["Pillow"] = pillow(held, "TIFF")
                files["Pillow, LZW"] = pillow(held, "TIFF", compression="tiff_lzw")
            if channels > 2:
                files["OpenCV"] = opencv(held, ".tif")
                files["GDAL"] = gdal(held, photometric="RGB", **({"alpha": "unspecified"} if channels == 4 else {}))
                files["GDAL, pixels"] = gdal(held, photometric="RGB", interleave="pixel", compress="DEFLATE")
            images = [(name, {n: d for n, d in files.items() if channels != 4 or not n.startswith(("GDAL", "OpenCV"))})]
            if channels == 4:
                images.append(
                    (f"RGB and a band, {bits} bits", {n: d for n, d in files.items() if n.startswith("GDAL")})
                )
            for called, some in images:
                case(called, "TIFF", some, same, masks=masks_of(called, channels, bits))
            if channels > 2:
                case(name, "npy, npz", arrays(held), same, masks=NO_ARRAY)
    colors, squares = numbers(8, 3), gradient()
    case("RGB, 8 bits", "BMP", {"Pillow": pillow(colors, "BMP"), "by hand": by_hand.bmp(colors, 24)}, as_stored(colors))
    case("RGB, 8 bits", "WebP", {"Pillow": pillow(colors, "WEBP", lossless=True)}, as_stored(colors))
    files = {
        name: pillow(squares, "JPEG", quality=95, subsampling=n) for n, name in enumerate(("4:4:4", "4:2:2", "4:2:0"))
    }
    case("RGB, 8 bits", "JPEG", files, Became("as stored", squares, 6), masks=LOSSY)
    unused = numbers(8, 4)
    case(
        "RGB and an unused byte", "BMP", {"by hand": by_hand.bmp(unused, 32)}, Became("RGB as stored", unused[..., :3])
    )
    clear = numbers(8, 4)
    files = {"Pillow": pillow(clear, "WEBP", lossless=True, exact=True)}
    case("RGBA, 8 bits", "WebP", files, as_stored(clear), masks=CLEAR)


def masks_of(name, channels, bits) -> Refused:
    if bits == 16:
        return DEEP if channels > 2 else CHANNELS
    return CHANNELS if "band" in name else CLEAR if channels == 2 else COLOURED


def palette_cases() -> None:
    for bits in (1, 2, 4, 8):
        entries, table = numbers(bits), RNG.integers(0, 256, (2**bits, 3), np.uint8)
        shown = Became("colours of the palette", table[entries])
        name = f"palette, {bits} bit{'s' if bits > 1 else ''}"
        held = Became("entries of the palette", entries)
        case(name, "PNG", pngs(entries, bits, table.tobytes()), shown, PALETTE, held)
        if bits != 2:
            rows = [tuple(map(int, row)) for row in table]
            case(name, "BMP", {"by hand": by_hand.bmp(entries, bits, rows)}, shown, PALETTE, held)
        wide = (table.T.astype(int) * 257).ravel().tolist()
        files = tiffs(
            entries, bits, photometric=3, palette=wide, layouts={**OF_PILLOW, "bands": LAYOUTS["band after band"]}
        )
        case(name, "TIFF", files, shown, as_stored(entries), held)
        if bits == 8:
            files = {"": by_hand.tiff(entries, bits, photometric=3, palette=wide, order=">", big=True)}
            refused = Refused("is a TIFF in a palette.*Convert it to grey or RGB")
            case("palette, big-endian BigTIFF", "TIFF", files, refused, as_stored(entries), refused)
        if bits in (4, 8):
            alpha = RNG.integers(0, 256, 2**bits, np.uint8)
            chunk = by_hand.png_chunk(b"tRNS", alpha.tobytes())
            shown = Became("colours and alpha of the palette", np.dstack([table[entries], alpha[entries]]))
            name = name.replace(",", " with alpha,")
            case(name, "PNG", pngs(entries, bits, table.tobytes(), [chunk]), shown, PALETTE, held)
    picture = Image.fromarray(entries := numbers(8))
    picture.putpalette(table.ravel().tolist())
    coloured = Refused("GIF with a palette of colours|P with a palette of colours")
    case("palette, 8 bits", "GIF", {"Pillow": pillow(picture, "GIF")}, Became("colours of the palette", table[entries]),
         PALETTE, coloured)  # fmt: skip
    for bits, palette, name in (
        (8, [(0, 0, 0), (255, 255, 255)], "palette of black and white, 8 bits"),
        (4, [(0, 0, 0), (255, 255, 255)], "palette of black and white, 4 bits"),
        (4, [(n, n, n) for n in range(16)], "palette of 0 to 15 as grey, 4 bits"),
    ):
        refused = Refused("is a BMP of . bits with a palette of (black and white|greys).*Write it as PNG")
        case(name, "BMP", {"by hand": by_hand.bmp(numbers(1), bits, palette)}, refused, masks=refused)
    for bits in (1, 4, 8, 16):
        grey = numbers(bits)
        grey[0, 0] = 1
        most = 65535 if bits == 16 else 255
        high = grey * grey.dtype.type(most // (2**bits - 1))
        shown = Became("grey and alpha", np.dstack([high, np.where(grey == 1, 0, most).astype(grey.dtype)]))
        files = pngs(grey, bits, chunks=[by_hand.png_chunk(b"tRNS", b"\0\1")])
        case(f"grey, one value clear, {bits} bit{'s' if bits > 1 else ''}", "PNG", files, shown, masks=as_stored(grey))
    for bits in (8, 16):
        colors = numbers(bits, 3)
        key = by_hand.png_chunk(b"tRNS", colors[2, 2].astype(">u2").tobytes())
        most = np.iinfo(colors.dtype).max
        alpha = np.where((colors == colors[2, 2]).all(-1), 0, most).astype(colors.dtype)
        shown = Became("RGB and alpha", np.dstack([colors, alpha]))
        masks = DEEP if bits == 16 else COLOURED
        case(f"RGB, one colour clear, {bits} bits", "PNG", pngs(colors, bits, chunks=[key]), shown, masks=masks)


def printed_cases() -> None:
    """Colours as printers and video have them, and colours that alpha was multiplied into."""
    inks = blocks(4)
    shown = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    rgb = Became("RGB: (255 - C)(255 - K) / 255", shown, 2)
    inverted = Image.fromarray(inks, "CMYK")  # which Pillow writes inverted, as Adobe does
    case("CMYK, 8 bits", "JPEG", {"Pillow": pillow(inverted, "JPEG", quality=100)}, rgb, masks=LOSSY)
    files = {"by hand": by_hand.ycck(pillow(Image.fromarray(255 - ycck_of(inks), "CMYK"), "JPEG", quality=100))}
    case("YCCK, 8 bits", "JPEG", files, rgb, masks=LOSSY)
    files = {**tiffs(inks, photometric=5, layouts=OF_PILLOW), "Pillow": pillow(inverted, "TIFF")}
    no_bands = Refused("is a TIFF in CMYK, which has no bands.*Convert it to RGB")
    mode = Refused("mode CMYK")
    case("CMYK, 8 bits", "TIFF", files, rgb, no_bands, mode)
    refused = Refused("is a TIFF in CMYK.*Convert it to grey or RGB")
    apart = tiffs(inks, photometric=5, layouts={"band after band": LAYOUTS["band after band"]})
    case("CMYK, band after band", "TIFF", apart, refused, no_bands, mode)
    squares = gradient()
    files = {"GDAL": gdal(squares, compress="JPEG", photometric="YCBCR", interleave="pixel", jpeg_quality=95),
             "Pillow": pillow(squares, "TIFF", compression="jpeg", quality=95)}  # fmt: skip
    case("YCbCr, compressed by JPEG", "TIFF", files, Became("RGB", squares, 6), masks=LOSSY)
    video = np.rint(ycc_of(squares)).clip(0, 255).astype(np.uint8)
    files = tiffs(video, photometric=6, tags=[(530, 3, [1, 1])], layouts={"plain": {}, "strips": {"rows": 8}})
    no_bands = Refused("is a TIFF in YCbCr, which has no bands.*Convert it to RGB")
    case("YCbCr, 8 bits", "TIFF", files, Became("RGB", squares, 3), no_bands, Refused("mode YCbCr"))
    lab = Refused("is a TIFF in CIE.*Convert it to")
    case("CIE L*a*b*", "TIFF", tiffs(numbers(8, 3), photometric=8), lab, masks=Refused("a picture of mode LAB"))

    straight, alpha = numbers(8, 3), numbers(8)
    stored = np.dstack([straight * (alpha[..., None] / 255), alpha]).round().astype(np.uint8)
    colors = np.where(
        alpha[..., None] > 0, np.minimum(255, stored[..., :3] * 255.0 / np.maximum(alpha, 1)[..., None]), 0
    )
    files = tiffs(stored, extra=(1,), layouts=OF_PILLOW)
    shown = Became("divided by alpha again", np.dstack([colors, alpha]), 1)
    case("RGB multiplied by alpha, 8 bits", "TIFF", files, shown, as_stored(stored), COLOURED)
    refused = Refused("multiplied by their alpha.*Write it with straight alpha, or name its bands by data.bands")
    files = tiffs(stored, extra=(1,), layouts={"band after band": LAYOUTS["band after band"]})
    case("RGB multiplied by alpha, band after band", "TIFF", files, refused, as_stored(stored), CHANNELS)
    deep = numbers(16, 4)
    case("RGB multiplied by alpha, 16 bits", "TIFF", tiffs(deep, extra=(1,)), refused, as_stored(deep), DEEP)
    pair = np.dstack([stored[..., 0], alpha])
    shown = Became("divided by alpha again", np.dstack([colors[..., 0], alpha]), 1)
    files = tiffs(pair, extra=(1,), layouts=OF_PILLOW)
    case("grey multiplied by alpha, 8 bits", "TIFF", files, shown, as_stored(pair), COLOURED)
    deep = numbers(16, 2)
    case("grey multiplied by alpha, 16 bits", "TIFF", tiffs(deep, extra=(1,)), refused, as_stored(deep), CHANNELS)


def ycc_of(rgb) -> np.ndarray:
    """YCbCr as JFIF has it (ITU-T T.871, section 7)."""
    red, green, blue = np.moveaxis(rgb.astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402], -1)


def ycck_of(inks) -> np.ndarray:
    """Samples of a YCCK JPEG as Adobe writes it: K inverted, YCbCr of the RGB that the colours are the inverse of."""
    samples = np.concatenate([ycc_of(inks[..., :3]), 255.0 - inks[..., 3:]], -1)
    return np.rint(samples).clip(0, 255).astype(np.uint8)


def several_cases() -> None:
    first, second = numbers(8), numbers(8)
    more = {"save_all": True, "append_images": [Image.fromarray(second)]}
    masks = Refused("holds 2 pages or frames, of which only one can be the mask. Write it with one")
    for container, format in (("PNG", "PNG"), ("GIF", "GIF"), ("WebP", "WEBP"), ("TIFF", "TIFF")):
        case("several pictures", container, {"Pillow": pillow(first, format, **more)}, SEVERAL, masks=masks)
    stream = io.BytesIO()
    np.savez(stream, a=first, b=second)
    refused = Refused(r"of its arrays \(a, b\) no single one. Write the image as the only array")
    case(
        "several pictures",
        "npy, npz",
        {".npz": stream.getvalue()},
        refused,
        masks=Refused("no single one. Set masks.key"),
    )


for write in (grey_cases, number_cases, colour_cases, palette_cases, printed_cases, several_cases):
    write()


# --- Reading --------------------------------------------------------------------------------------------------------


FEW_ENDINGS = 2  # of eight; under all with the marker `nightly`


@functools.cache
def found(number: int, reader: str, folder: Path, endings: int) -> list[tuple[str, np.ndarray | str]]:
    """Read each file of a case, also under so many endings: who wrote it, and its values or a refusal's message."""
    held = CASES[number]
    results: list[tuple[str, np.ndarray | str]] = []
    for writer, data in held.files.items():
        path = folder / f"a{ENDINGS.get(held.container) or Path('a' + writer).suffix}"
        path.write_bytes(data)
        try:
            results.append((writer, read_by(reader, held, endings)(path)))
        except DataError as error:
            assert str(path) in str(error), error
            results.append((writer, str(error).replace(str(path), "FILE")))
    return results


def read_by(reader: str, held: Case, endings: int) -> Callable[[Path], np.ndarray]:
    if reader == "masks" and held.container == "npy, npz":
        return lambda path: create_format("array", Labels(("a", "b"))).read(path, path, (HEIGHT, WIDTH))
    if reader == "masks":
        return lambda path: read_indices(path, 10**6)
    expected = getattr(held, reader)
    channels = 1
    if isinstance(expected, Became):
        channels = expected.values.shape[2] if expected.values.ndim == 3 else 1
    bands = list(range(1, channels + 1)) if reader == "bands" else None
    plain = ImageReader(channels, bands=bands)

    def read(path: Path) -> np.ndarray:
        stored, given = plain.stored(path), plain(path)
        for named in under_endings(path, endings):
            assert plain(named).dtype == given.dtype, named
            assert plain.gives_float(named) == (given.dtype == np.float32), named
        # What networks are given: 8 bits as they are, the upper 8 of unsigned 16, all others as float32
        if stored.dtype == np.uint16:
            np.testing.assert_array_equal(given, (stored >> 8).astype(np.uint8))
        else:
            np.testing.assert_array_equal(given, stored.astype(np.uint8 if stored.dtype == np.uint8 else np.float32))
        return stored[..., 0] if stored.shape[2] == 1 else stored

    return read


def under_endings(path: Path, count: int) -> list[Path]:
    """Return paths of one file: of a picture under `count` endings, other ones for another file; of an array one."""
    if path.suffix in ARRAY_SUFFIXES:
        return [path]
    named = [path.with_name(f"also{ending}") for ending in sorted(PICTURE_SUFFIXES)]
    first = zlib.crc32(path.read_bytes()) % len(named)
    named = [*named, *named][first : first + count]
    for other in named:
        other.unlink(missing_ok=True)
        other.hardlink_to(path)
    return named


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("samples")


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{c.samples}-{c.container}" for c in CASES])
@pytest.mark.parametrize("endings", [FEW_ENDINGS, pytest.param(len(PICTURE_SUFFIXES), marks=pytest.mark.nightly)])
def test_stored_values_or_a_refusal_with_its_cure(number, folder, endings):
    held = CASES[number]
    for reader in READERS:
        expected = getattr(held, reader)
        for writer, result in found(number, reader, folder, endings):
            where = f"{held.samples}, {held.container}, {writer}, {reader}"
            if isinstance(expected, Refused):
                assert isinstance(result, str), f"{where}: {result}"
                assert re.search(expected.pattern, result), f"{where}: {result}"
                continue
            assert not isinstance(result, str), f"{where}: {result}"
            assert result.shape == expected.values.shape, where
            assert result.dtype.isnative, where
            if expected.within:
                assert np.abs(result.astype(float) - expected.values).max() <= expected.within, where
            else:
                np.testing.assert_array_equal(result, expected.values, err_msg=where)


# --- The page -------------------------------------------------------------------------------------------------------

HEAD = "## Every kind of file\n"


def tables(folder: Path) -> str:
    """The tables of the page, from what the readers made of the files."""
    refusals: dict[str, int] = {}
    lines = [
        HEAD,
        "Generated by `pytest tests/data/test_sample_types.py -n 0 --sample-types docs/sample-types.md` from what the",
        "readers return for files written by Pillow, libtiff (OpenCV), GDAL and by hand: both byte orders, BigTIFF,",
        "strips and tiles, chunky and planar, compressed or not, interlaced or not. Data types are those before",
        "`data.value_range` or the reduction to 8 bits. R1, R2, ... are refusals, listed below.",
    ]
    for reader, title in READERS.items():
        lines += ["", f"### {title}", "", row(["Samples", *CONTAINERS]), row(["---"] * (1 + len(CONTAINERS)))]
        for samples in dict.fromkeys(held.samples for held in CASES):
            cells = {
                held.container: cell(held, found(number, reader, folder, FEW_ENDINGS), getattr(held, reader), refusals)
                for number, held in enumerate(CASES)
                if held.samples == samples
            }
            lines.append(row([samples.replace("*", "\\*"), *(cells.get(name, "") for name in CONTAINERS)]))
    lines += ["", "### Refusals", "", *(f"- R{number}: {message}" for message, number in refusals.items())]
    return "\n".join(lines) + "\n"


def cell(held: Case, results: list[tuple[str, np.ndarray | str]], expected: Became | Refused, refusals: dict) -> str:
    said = []
    for _, result in results:
        if isinstance(result, str):
            message = (
                re.sub(r"\d+ of \d+ (pixels|values)", r"N of M \1", result).replace("*", "\\*").replace("<", "\\<")
            )
            message = re.sub(r"'a\.\w+'", "'FILE'", re.sub(r"-?[\d.]+(e-?\d+)? \(1 pixels\)(, )?", "", message))
            said.append(f"R{refusals.setdefault(message, len(refusals) + 1)}")
        else:
            words = expected.words if isinstance(expected, Became) else "WRONG"
            said.append(f"{result.dtype.newbyteorder('=')} {words}")
    return ", ".join(dict.fromkeys(said))


def row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def test_the_page_says_what_was_found(folder, request):
    written = tables(folder)
    if target := request.config.getoption("--sample-types", default=None):
        before = Path(target).read_text(encoding="utf-8").partition(HEAD)[0]
        Path(target).write_text(before + written, encoding="utf-8")
    stands = PAGE.read_text(encoding="utf-8").partition(HEAD)
    assert stands[1] + stands[2] == written, "docs/sample-types.md: write it anew by the option --sample-types"
