"""`read_image`: formats, orientation, transparency, depth, bands, limits and broken files."""

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from opsin.data import DataError, Sample, band_statistics, open, read_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)


def saved(tmp_path, name, image=None, **options):
    path = tmp_path / name
    (image or Image.fromarray(PIXELS)).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.ppm", "a.tga", "a.jp2", "a.pcx", "a.qoi"])
def test_lossless_formats_give_the_pixels(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    path = saved(tmp_path, name, **options)
    assert np.array_equal(read_image(path), PIXELS)
    assert np.array_equal(read_image(path, None), PIXELS)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow(tmp_path, mode, progressive):
    smooth = Image.fromarray(PIXELS).resize((90, 70), Image.Resampling.BICUBIC).convert(mode)
    path = saved(tmp_path, "a.jpg", smooth, progressive=progressive)
    assert np.array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))


def test_jpeg_without_the_faster_decoder(tmp_path, monkeypatch):
    path = saved(tmp_path, "a.jpg")
    fast = read_image(path)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert np.array_equal(read_image(path), fast)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_orientation(tmp_path, turn, name):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = turn
    path = saved(tmp_path, name, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert np.array_equal(read_image(path), upright)
    assert upright.shape == ((17, 13, 3) if turn > 4 else (13, 17, 3))


def test_grey_and_colour(tmp_path):
    grey = saved(tmp_path, "grey.png", Image.fromarray(PIXELS[..., 0]))
    assert np.array_equal(read_image(grey), PIXELS[..., :1].repeat(3, axis=2))
    assert np.array_equal(read_image(grey, 1), PIXELS[..., :1])
    colour = saved(tmp_path, "colour.png")
    expected = np.asarray(Image.fromarray(PIXELS).convert("L"))
    assert np.array_equal(read_image(colour, 1)[..., 0], expected)
    assert read_image(saved(tmp_path, "bits.png", Image.new("1", (3, 2), 1)), None).tolist() == [[[255]] * 3] * 2


def test_palette(tmp_path):
    image = Image.fromarray(PIXELS).quantize(8)
    assert np.array_equal(read_image(saved(tmp_path, "a.gif", image)), np.asarray(image.convert("RGB")))


def test_transparency_is_laid_on_white(tmp_path):
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[0, 0] = (10, 20, 30, 255)
    clear[1, 1] = (0, 0, 0, 128)
    pixels = read_image(saved(tmp_path, "a.png", Image.fromarray(clear)))
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[0, 1].tolist() == [255, 255, 255]
    assert abs(int(pixels[1, 1, 0]) - 127) <= 1
    grey = Image.merge("LA", [Image.new("L", (2, 2), 7), Image.new("L", (2, 2), 0)])
    assert (read_image(saved(tmp_path, "la.png", grey)) == 255).all()
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([9, 9, 9, 1, 1, 1])
    assert (read_image(saved(tmp_path, "p.png", palette, transparency=0)) == 255).all()
    assert read_image(saved(tmp_path, "four.png", Image.fromarray(clear)), 4).tolist() == clear.tolist()


def test_sixteen_bits_are_kept(tmp_path):
    deep = RNG.integers(0, 65536, (5, 4), dtype=np.uint16)
    for name in ("a.png", "a.tif", "a.pgm"):
        pixels = read_image(saved(tmp_path, name, Image.fromarray(deep)), None)
        assert pixels.dtype == np.uint16
        assert np.array_equal(pixels[..., 0], deep)
    assert read_image(tmp_path / "a.png").shape == (5, 4, 3)


def test_many_bands(tmp_path):
    for dtype in (np.uint8, np.uint16, np.float32, np.float64):
        bands = (RNG.random((6, 5, 7)) * 200).astype(dtype)
        np.save(tmp_path / "a.npy", bands)
        tifffile.imwrite(tmp_path / "last.tif", bands, photometric="minisblack", planarconfig="contig")
        tifffile.imwrite(
            tmp_path / "first.tif", bands.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate"
        )
        for name in ("a.npy", "last.tif", "first.tif"):
            assert np.array_equal(
                read_image(tmp_path / name, 7), bands.astype(np.float32 if bands.dtype.kind == "f" else dtype)
            ), name
    deep = RNG.integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "rgb16.tif", deep, photometric="rgb")
    assert np.array_equal(read_image(tmp_path / "rgb16.tif"), deep)
    with pytest.raises(DataError, match="has 7 bands and 3 channels were asked; ask for channels=7"):
        read_image(tmp_path / "a.npy")


def test_many_bands_without_the_reader_names_the_extra(tmp_path, monkeypatch):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((6, 5, 7), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError, match=r"opsin\[tiff\]"):
        read_image(tmp_path / "a.tif", 7)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (np.zeros((2, 2), np.int64), "holds int64"),
        (np.full((2, 2), np.nan, np.float32), "not finite"),
        (np.array([[{}]], dtype=object), "cannot be read"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_image(tmp_path / "a.npy")


def test_thirty_two_bit_integers_are_refused(tmp_path):
    wide = Image.fromarray(np.array([[0, 70_000]], np.int32))
    with pytest.raises(DataError, match="32-bit integers from 0 to 70000"):
        read_image(saved(tmp_path, "a.tif", wide))


def test_statistics_of_bands(tmp_path):
    stack = [RNG.integers(0, 65536, (8, 9, 5), dtype=np.uint16) for _ in range(4)]
    for i, pixels in enumerate(stack):
        pixels[..., 4] = 7
        np.save(tmp_path / f"{i}.npy", pixels)
    found = band_statistics(open([(tmp_path / f"{i}.npy", i % 2) for i in range(4)]))
    whole = np.stack(stack).reshape(-1, 5) / 65535
    assert found["channels"] == 5
    assert np.allclose(found["mean"], whole.mean(axis=0))
    assert np.allclose(found["std"][:4], whole.std(axis=0)[:4])
    assert found["std"][4] == 1
    np.save(tmp_path / "3.npy", stack[0][..., :2])
    with pytest.raises(DataError, match="has 2 bands, the images before it 5"):
        band_statistics(open([(tmp_path / f"{i}.npy", i % 2) for i in range(4)]))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif"])
def test_truncated_files(tmp_path, name):
    path = saved(tmp_path, name, Image.fromarray(PIXELS).resize((300, 200)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=name):
        read_image(path)


def test_files_that_are_no_images(tmp_path):
    for name, content in {
        "empty.png": b"",
        "text.jpg": b"hello",
        "zeros.tif": bytes(100),
        "bad.npy": b"\x93NUMPY",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        read_image(tmp_path / "no.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)


def bomb(path):
    """A small PNG that claims 60,000 x 60,000 pixels."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    return path


def test_decompression_bombs(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"60000 x 60000 = 3,600,000,000 pixels.*OPSIN_MAX_PIXELS=3600000000"):
        read_image(bomb(tmp_path / "bomb.png"))
    path = saved(tmp_path, "a.png")
    monkeypatch.setenv("OPSIN_MAX_PIXELS", "220")
    with pytest.raises(DataError, match="the limit is 220"):
        read_image(path)
    monkeypatch.setenv("OPSIN_MAX_PIXELS", "221")
    assert read_image(path).shape == (13, 17, 3)
    monkeypatch.setenv("OPSIN_MAX_PIXELS", "many")
    with pytest.raises(DataError, match="'many' is not a whole number"):
        read_image(path)


def test_the_limit_of_pillow_stays_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    read_image(saved(tmp_path, "a.png"))
    assert before == Image.MAX_IMAGE_PIXELS is not None


def test_one_pixel(tmp_path):
    for name in ("a.png", "a.jpg", "a.gif"):
        assert read_image(saved(tmp_path, name, Image.new("RGB", (1, 1), "red"))).shape == (1, 1, 3)


def test_huge_photographs_within_a_memory_bound(tmp_path):
    """20,000 x 20,000 pixels are 1.2 GB; shrunk while decoding they take a fraction."""
    path = saved(tmp_path, "huge.jpg", Image.new("L", (20_000, 20_000), 90), quality=50)
    code = (
        "import resource, sys; from opsin.data import Preprocess; load = Preprocess((224, 224), exact=False);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; x = load.pixels(sys.argv[1]);"
        "print(x.shape, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    shape, megabytes = done.stdout.rsplit(" ", 1)
    assert shape == "(224, 224, 3)"
    assert int(megabytes) < 200


def test_long_strips(tmp_path):
    from opsin.data import Preprocess

    for size in ((20_000, 1), (1, 20_000)):
        path = saved(tmp_path, "strip.png", Image.new("RGB", size, (200, 100, 0)))
        for exact in (True, False):
            pixels = Preprocess((64, 64), exact=exact).pixels(path)
            assert (
                pixels.reshape(-1, 3).min(axis=0).tolist()
                == pixels.reshape(-1, 3).max(axis=0).tolist()
                == [200, 100, 0]
            )


def test_members_of_archives(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/x.png", stream.getvalue())
        archive.writestr("in/y.png", b"no")
    assert np.array_equal(read_image(Sample(tmp_path / "a.zip", 0, member="in/x.png")), PIXELS)
    for member in ("in/y.png", "in/z.png"):
        with pytest.raises(DataError, match=member):
            read_image(Sample(tmp_path / "a.zip", 0, member=member))
