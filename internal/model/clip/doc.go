// Package clip is the visual tower of the XLM-RoBERTa CLIP ViT-H/14 that i2v and
// flf2v condition on.
package clip
