// Package mp4 writes H.264 video into an MP4 file that a browser can start to
// play before it has all of it, and reads the comment of MP4 files, where the
// settings of a run are kept.
//
// Sources: ISO/IEC 14496-12 (boxes), 14496-15 (avc1, avcC), Apple's QuickTime
// File Format (the metadata item list).
package mp4
