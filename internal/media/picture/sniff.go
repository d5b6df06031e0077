package picture

import (
	"bytes"
	"fmt"
)

type kind string

const (
	kindJPEG kind = "jpeg"
	kindPNG  kind = "png"
	kindWebP kind = "webp"
	kindBMP  kind = "bmp"
	kindGIF  kind = "gif"
)

const pngSignature = "\x89PNG\r\n\x1a\n"

// sniff names the format by the first bytes; the file's name is not asked.
// Errors: ErrFormat, with what the file seems to be.
func sniff(data []byte) (kind, error) {
	has := func(at int, magic string) bool {
		return len(data) >= at+len(magic) && string(data[at:at+len(magic)]) == magic
	}
	switch {
	case len(data) == 0:
		return "", fmt.Errorf("the picture file is empty (0 bytes): %w", ErrFormat)
	case has(0, "\xff\xd8\xff"):
		return kindJPEG, nil
	case has(0, pngSignature):
		return kindPNG, nil
	case has(0, "RIFF") && has(8, "WEBP"):
		return kindWebP, nil
	case has(0, "BM"):
		return kindBMP, nil
	case has(0, "GIF87a"), has(0, "GIF89a"):
		return kindGIF, nil
	}
	if what := unsupported(data, has); what != "" {
		return "", fmt.Errorf("%s is not supported; convert to PNG or JPEG: %w", what, ErrFormat)
	}
	return "", fmt.Errorf("not a picture (begins with % x); expected JPEG, PNG, WebP, BMP or GIF: %w", data[:min(len(data), 8)], ErrFormat)
}

// unsupported names what a reader is likely to have handed over instead.
func unsupported(data []byte, has func(at int, magic string) bool) string {
	if has(4, "ftyp") {
		brands := data[8:min(len(data), 64)]
		for _, b := range []struct{ brand, name string }{
			{"avif", "AVIF"}, {"avis", "AVIF"},
			{"heic", "HEIC"}, {"heix", "HEIC"}, {"hevc", "HEIC"}, {"hevx", "HEIC"}, {"mif1", "HEIF"}, {"msf1", "HEIF"},
			{"crx ", "Canon CR3 raw"},
		} {
			if bytes.Contains(brands, []byte(b.brand)) {
				return b.name
			}
		}
		return "a video (MP4 or MOV)"
	}
	for _, m := range []struct {
		at    int
		magic string
		name  string
	}{
		{0, "II*\x00", "TIFF"}, {0, "MM\x00*", "TIFF"}, {0, "II+\x00", "TIFF"}, {0, "MM\x00+", "TIFF"},
		{0, "\xff\x0a", "JPEG XL"}, {0, "\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"},
		{0, "\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"}, {0, "\xff\x4f\xff\x51", "JPEG 2000"},
		{0, "8BPS", "Photoshop PSD"}, {0, "qoif", "QOI"}, {0, "\x00\x00\x01\x00", "an icon (ICO)"},
		{0, "\x76\x2f\x31\x01", "OpenEXR"}, {0, "#?RADIANCE", "Radiance HDR"}, {0, "DDS ", "DDS"},
		{0, "%PDF", "PDF"}, {0, "<svg", "SVG"}, {0, "<?xml", "SVG or XML"},
		{0, "\x1aE\xdf\xa3", "a video (Matroska or WebM)"}, {8, "AVI ", "a video (AVI)"},
		{0, "PK\x03\x04", "a zip archive"}, {0, "<!DOCTYPE", "an HTML page"}, {0, "<html", "an HTML page"},
		{0, "version https://git-lfs", "a git-lfs pointer"},
	} {
		if has(m.at, m.magic) {
			return m.name
		}
	}
	if len(data) > 2 && data[0] == 'P' && data[1] >= '1' && data[1] <= '7' && (data[2] == '\n' || data[2] == ' ' || data[2] == '\r') {
		return "PNM"
	}
	return ""
}
