// Package picture turns an image file into the numbers that the models read.
//
// Decode gives the same bytes as Pillow's Image.open(f).convert("RGB"), which
// is what the official code does with its input picture. Exactness is worth
// its lines: a difference of one step in the picture is amplified by forty
// denoising steps, and "the same picture as the official run" is then a claim
// that nobody can check. Three places decide it.
//
//   - JPEG. The standard's inverse DCT is real-valued, so decoders differ in
//     the last bit, and chroma upsampling is not standardised at all. The
//     decoder here (baseline and progressive Huffman, 8 bit) uses libjpeg's
//     accurate integer DCT ("islow"), its triangle-filter chroma upsampling
//     ("fancy") and its 16-bit fixed-point colour conversion, including how
//     the SIMD versions saturate. The standard library's image/jpeg differs by
//     up to 3 of 255 in one value out of thirty even with the same upsampling.
//   - WebP. Planes and lossless pixels come from golang.org/x/image; the chroma
//     upsampling and the limited-range colour conversion are libwebp's.
//   - Modes. Alpha is dropped, not blended; a 16-bit grey PNG is clipped at
//     255, not scaled; CMYK is taken as inverted; EXIF orientation is ignored
//     unless Options.ExifOrient asks for it. All of this is what Pillow does
//     (versions 9.4 and 11.1 agree), sensible or not.
//
// BicubicHWC and ClipInput are torch's bicubic interpolation in float32.
//
// Files come from strangers: sizes are read and checked before anything is
// allocated, and a header that promises more pixels than its data could hold is
// refused at once. A damaged file is refused, too, also where libjpeg would
// fill the rest with grey and only warn.
//
// Shapes: pictures are channels-last, [H, W, 3], row-major.
package picture
