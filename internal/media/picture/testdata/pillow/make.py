# Writes small pictures in many encodings into in/, and what Pillow reads from
# each, Image.open(f).convert("RGB"), as PNG into want/. Made with Pillow 9.4.0,
# libjpeg-turbo 2.1.5 (and its cjpeg) and libwebp 1.2.4.
import io, os, random, subprocess, zlib
import numpy as np
from PIL import Image

def picture(w, h, seed):
    y, x = np.mgrid[0:h, 0:w].astype(float)
    a = np.stack([128 + 127*np.sin(x/5 + seed)*np.cos(y/7), 255*(x + y)/(w + h),
                  128 + 127*np.sin(x*y/(40 + seed))], -1)
    a += np.random.RandomState(seed).randn(h, w, 3)*12
    a[h//3:h//3 + 3, w//4:w//2] = [255, 0, 0]
    a[h//2:, w//2:w//2 + 4] = [0, 0, 255]
    return Image.fromarray(np.clip(a, 0, 255).astype(np.uint8))

def put(name, data):
    open("in/" + name, "wb").write(data)
    try:
        im = Image.open("in/" + name).convert("RGB")
    except OSError as e:
        print(name, "is refused by Pillow:", e)
        return
    im.info.clear()  # or transparency would be written
    im.save("want/" + name + ".png", optimize=True)

def save(im, kind, **options):
    f = io.BytesIO()
    im.save(f, kind, **options)
    return f.getvalue()

def cjpeg(im, *args):
    return subprocess.run(["cjpeg", *args], input=save(im, "PPM"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout

def jpeg(w, h, sample, seed, *args):
    return cjpeg(picture(w, h, seed), "-sample", sample if "," in sample else sample + ",1x1,1x1", *args)

def scans(text):
    open("scans.tmp", "w").write(text)
    return "scans.tmp"

def wild(data, seed):  # random quantisers: coefficients far out of range
    b, r = bytearray(data), random.Random(seed)
    at = b.find(b"\xff\xdb")
    for k in range(at + 5, at + 2 + b[at + 2]*256 + b[at + 3]):
        if (k - at - 5) % 65 != 64 and r.random() < .3:
            b[k] = r.randint(1, 255)
    return bytes(b)

def without_tables(b):
    while (at := b.find(b"\xff\xc4")) >= 0:
        b = b[:at] + b[at + 2 + b[at + 2]*256 + b[at + 3]:]
    return b

os.makedirs("in", exist_ok=True)
os.makedirs("want", exist_ok=True)

# JPEG
for i, s in enumerate(["1x1", "2x1", "2x2", "1x2", "4x1", "2x4", "1x4", "4x2,1x1,1x1", "2x2,1x2,2x1",
                       "2x2,2x1,1x1", "1x1,2x2,2x2", "3x1,1x1,1x1", "3x2,1x1,1x2"]):
    put("sample_%s.jpg" % s.replace(",", "_"), jpeg(35, 27, s, i, "-quality", str(60 + 2*i)))
for w, h in [(1, 1), (2, 3), (3, 2), (4, 5), (5, 4), (17, 16), (33, 9)]:
    put("size_%dx%d_420.jpg" % (w, h), jpeg(w, h, "2x2", w, "-quality", "90"))
for w, h in [(1, 3), (3, 1), (5, 7)]:
    put("size_%dx%d_422.jpg" % (w, h), jpeg(w, h, "2x1", w, "-quality", "90"))
    put("size_%dx%d_440.jpg" % (w, h), jpeg(w, h, "1x2", w, "-quality", "90"))
put("restart_420.jpg", jpeg(70, 40, "2x2", 3, "-restart", "2B"))
put("restart_progressive.jpg", jpeg(70, 40, "2x2", 3, "-restart", "1", "-progressive"))
put("progressive_420.jpg", jpeg(70, 43, "2x2", 4, "-progressive", "-quality", "85"))
put("progressive_444_q100.jpg", jpeg(40, 30, "1x1", 4, "-progressive", "-quality", "100"))
put("quality_1.jpg", jpeg(40, 30, "2x2", 5, "-quality", "1"))
put("quality_100.jpg", jpeg(40, 30, "1x1", 5, "-quality", "100"))
put("wild.jpg", wild(jpeg(40, 30, "2x2", 5, "-quality", "90"), 1))
put("wild_progressive.jpg", wild(jpeg(40, 30, "1x1", 5, "-quality", "90", "-progressive"), 2))
put("sequential_three_scans.jpg", jpeg(37, 29, "2x2", 6, "-scans", scans("0;\n1;\n2;\n")))
put("sequential_two_scans.jpg", jpeg(37, 29, "2x2", 6, "-scans", scans("0,2;\n1;\n")))
put("rgb_ids.jpg", jpeg(37, 29, "1x1", 7, "-rgb"))
put("gray_sampled_2x2.jpg", cjpeg(picture(37, 29, 8), "-grayscale", "-sample", "2x2"))
put("gray_progressive.jpg", save(picture(37, 29, 8).convert("L"), "JPEG", progressive=True))
put("optimized_q95.jpg", save(picture(64, 48, 11), "JPEG", quality=95, optimize=True, subsampling=2))
b = save(picture(37, 29, 10).convert("CMYK"), "JPEG", quality=90)
i = b.find(b"Adobe")
put("cmyk.jpg", b)
put("ycck.jpg", b[:i + 11] + b"\x02" + b[i + 12:])
put("cmyk_no_adobe.jpg", b[:i - 4] + b[i + 12:])
b = jpeg(37, 29, "1x1", 7)
put("motion_jpeg_frame.jpg", without_tables(jpeg(37, 29, "2x2", 7)))
put("no_jfif.jpg", b[:2] + b[20:])
put("adobe_rgb.jpg", b[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + b[20:])
put("junk_between_and_after.jpg", b[:20] + b"\x00\x01\x02" + b[20:] + b"trailing bytes")

# PNG
im, w, h = picture(21, 17, 12), 21, 17
alpha = Image.fromarray((np.arange(w*h).reshape(h, w) % 256).astype(np.uint8))
rgba = im.copy()
rgba.putalpha(alpha)
frames = [picture(w, h, s) for s in (12, 13, 14)]
put("rgb.png", save(im, "PNG"))
for bits in (8, 4, 2, 1):
    put("palette_%d.png" % bits, save(im.quantize(min(200, 2**bits - (bits == 4))), "PNG", bits=bits))
put("palette_transparent.png", save(im.quantize(40), "PNG", transparency=3))
put("rgb_key.png", save(im, "PNG", transparency=im.getpixel((3, 3))))
put("gray_key.png", save(im.convert("L"), "PNG", transparency=100))
put("gray_alpha.png", save(Image.merge("LA", (im.convert("L"), alpha)), "PNG"))
put("rgba.png", save(rgba, "PNG"))
put("animated.png", save(frames[0], "PNG", save_all=True, append_images=frames[1:]))
put("gray16_small_values.png", save(Image.fromarray((np.arange(w*h).reshape(h, w)*3 % 700).astype(np.uint16)), "PNG"))
b = save(im, "PNG")
put("no_iend.png", b[:-12])

def chunk(name, body):
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

def raw_png(samples, depth, color, interlace, extra=b""):  # what Pillow reads but does not write
    hh, ww, cc = samples.shape
    data = b""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x0, y0, dx, dy in passes if interlace else [(0, 0, 1, 1)]:
        part = samples[y0::dy, x0::dx].astype(int)
        for row in part if part.shape[1] else []:
            bits = "".join(format(v, "0%db" % depth) for v in row.reshape(-1))
            bits += "0" * (-len(bits) % 8)
            data += b"\0" + int(bits, 2).to_bytes(len(bits)//8, "big")
    head = ww.to_bytes(4, "big") + hh.to_bytes(4, "big") + bytes([depth, color, 0, 0, interlace])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")

noise = np.random.RandomState(5)
for color, channels, depths in [(0, 1, (1, 2, 4, 8, 16)), (2, 3, (8, 16)), (3, 1, (2, 4, 8)), (4, 2, (8, 16)), (6, 4, (8, 16))]:
    for depth in depths:
        extra = chunk(b"PLTE", bytes(noise.randint(0, 256, 9))) if color == 3 else b""  # 3 entries: most are missing
        put("raw_type%d_%dbit%s.png" % (color, depth, "_interlaced" if depth != 4 else ""),
            raw_png(noise.randint(0, 2**depth, (h, w, channels)), depth, color, int(depth != 4), extra))

# WebP
for n, (ww, hh) in enumerate([(37, 29), (38, 28), (1, 1), (2, 2), (3, 1), (1, 4), (16, 16), (65, 31)]):
    put("lossy_%dx%d.webp" % (ww, hh), save(picture(ww, hh, 20 + n), "WEBP", quality=60 + n*4))
put("lossy_alpha.webp", save(rgba, "WEBP", quality=80))
put("lossless_alpha.webp", save(rgba, "WEBP", lossless=True, exact=True))
put("lossless_few_colours.webp", save(im.quantize(9).convert("RGB"), "WEBP", lossless=True))
put("animated.webp", save(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=70))
put("animated_lossless.webp", save(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))

# GIF and BMP
b = save(im.quantize(100), "GIF")
put("stray_bytes.gif", b.replace(b"\x2c\x00\x00\x00\x00", b"\x00\x00\x2c\x00\x00\x00\x00", 1))
put("plain.gif", save(im.quantize(100), "GIF"))
put("gray.gif", save(im.convert("L"), "GIF"))
put("interlaced.gif", save(im.quantize(30), "GIF", interlace=1))
put("transparent.gif", save(im.quantize(30), "GIF", transparency=2))
put("animated.gif", save(frames[0].quantize(60), "GIF", save_all=True, append_images=[f.quantize(60) for f in frames[1:]]))
put("rgb.bmp", save(im, "BMP"))
put("palette.bmp", save(im.quantize(100), "BMP"))
put("gray.bmp", save(im.convert("L"), "BMP"))
put("bilevel.bmp", save(im.convert("1"), "BMP"))
put("rgba.bmp", save(rgba, "BMP"))
px = np.array(im).astype(int)
for name, bits, head, body in [
    ("rgb555.bmp", 16, b"", ((px[..., 0] >> 3) << 10 | (px[..., 1] >> 3) << 5 | px[..., 2] >> 3)),
    ("rgb565.bmp", 16, b"\x00\xf8\x00\x00\xe0\x07\x00\x00\x1f\x00\x00\x00", ((px[..., 0] >> 3) << 11 | (px[..., 1] >> 2) << 5 | px[..., 2] >> 3)),
]:
    rows = np.zeros((h, (w + 1)//2*2), "<u2")
    rows[:, :w] = body[::-1]
    data = rows.tobytes()
    at = 54 + len(head)
    put(name, b"BM" + (at + len(data)).to_bytes(4, "little") + bytes(4) + at.to_bytes(4, "little") + (40).to_bytes(4, "little")
        + w.to_bytes(4, "little") + h.to_bytes(4, "little") + b"\x01\x00\x10\x00" + (3 if head else 0).to_bytes(4, "little")
        + len(data).to_bytes(4, "little") + bytes(16) + head + data)
os.remove("scans.tmp")
