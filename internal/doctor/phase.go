package doctor

import (
	"regexp"
	"strconv"
	"strings"
)

// Phases of the official program that wanrun does not have; the rest are named as
// wanrun's own.
const (
	start      = "start"
	loadT5     = "load_t5"
	loadVAE    = "load_vae"
	loadCLIP   = "load_clip"
	loadDiT    = "load_dit"
	prepare    = "prepare" // text, picture and VAE encoders, in this order
	textEncode = "text_encode"
	imgEncode  = "image_encode"
	vaeEncode  = "vae_encode"
	denoise    = "denoise"
	afterSteps = "after_steps" // the bar shows 100 %: the model goes to host memory, then the VAE decodes
	vaeDecode  = "vae_decode"
	write      = "write"
)

var phaseWords = map[string]string{
	start:      "at the start, before a model was loaded",
	loadT5:     "while T5, the text encoder, was being loaded",
	loadVAE:    "while the VAE was being loaded",
	loadCLIP:   "while CLIP, the picture encoder, was being loaded",
	loadDiT:    "while the diffusion model (DiT) was being loaded",
	prepare:    "after loading, before the first step: text, picture and VAE encoders",
	"tokenize": "while the prompt was cut into tokens",
	textEncode: "while T5 read the prompt",
	imgEncode:  "while CLIP looked at the picture",
	vaeEncode:  "while the VAE encoded the picture, before the first step",
	denoise:    "in the denoising steps",
	afterSteps: "right after the last step (the bar shows 100 %): moving the model to host memory and decoding",
	vaeDecode:  "while the VAE turned the finished latent into frames, after the last step",
	write:      "while the video was written",
}

// tracker follows where a log's program is.
type tracker struct {
	phase       string
	step, steps int
	trace       map[int]string // by rank, of the traceback that is being printed
	traceLines  map[int]int    // since its head
	finished    bool
}

// bar is tqdm's: " 45%|████▌     | 18/40 [03:10<03:52, 10.58s/it]".
var bar = regexp.MustCompile(`\d{1,3}%\|.{0,200}\| *(\d{1,5})/(\d{1,5}) \[`)

// marks are the official program's lines. Source: Wan2.1, generate.py and wan/modules/*.py.
var marks = []struct {
	text, phase string
	loading     bool // the line says "loading", too
}{
	{"generation job args:", start, false},
	{"creating wanmodel", loadDiT, false},
	{"creating wan", loadT5, false}, // WanI2V, WanT2V, WanFLF2V: T5 is built at once, with random weights
	{"models_t5_", loadT5, true},
	{"wan2.1_vae", loadVAE, true},
	{"models_clip_", loadCLIP, true},
	{"generating video", prepare, false},
	{"generating image", prepare, false},
	{"saving generated", write, false},
}

// wanrunPhase is in wanrun's plain progress lines and failures: "rank 1 … in denoise (3 of 12)".
var wanrunPhase = regexp.MustCompile(`\b(tokenize|text_encode|image_encode|vae_encode|denoise|vae_decode|write)\b(?:[ (]+(?:step )?(\d{1,5})(?: of |/)(\d{1,5}))?`)

func (t *tracker) follow(l line) {
	lower := l.lower
	if t.trace == nil {
		t.trace, t.traceLines = map[int]string{}, map[int]int{}
	}
	if strings.Contains(lower, "%|") {
		if m := bar.FindStringSubmatch(l.text); m != nil && !strings.Contains(lower, "shards") {
			t.bar(m)
			return
		}
	}
	if strings.Contains(lower, "traceback (most recent call last)") {
		t.trace[l.rank], t.traceLines[l.rank] = "", 0
		return
	}
	if strings.Contains(lower, `file "`) && len(t.trace) < 1<<12 {
		if p := framePhase(lower); p != "" {
			t.trace[l.rank] = p
		}
	}
	t.pass(l)
	switch {
	case strings.HasSuffix(lower, "finished.") || strings.Contains(lower, "] info: finished"):
		t.finished = true
		return
	case strings.Contains(lower, "wanrun") || strings.Contains(lower, "rank"):
		if m := wanrunPhase.FindStringSubmatch(l.text); m != nil && !strings.Contains(lower, `file "`) {
			t.phase = m[1]
			if m[2] != "" {
				t.step, t.steps = atoi(m[2]), atoi(m[3])
			}
		}
		return
	}
	for _, m := range marks {
		if strings.Contains(lower, m.text) && (!m.loading || strings.Contains(lower, "loading ") && !strings.Contains(lower, "error")) {
			t.phase = m.phase
			return
		}
	}
}

// pass counts a line that says nothing.
func (t *tracker) pass(l line) {
	if len(t.trace) > 0 {
		if _, ok := t.trace[l.rank]; ok {
			t.traceLines[l.rank]++
		}
	}
}

func (t *tracker) bar(m []string) {
	done, all := atoi(m[1]), atoi(m[2])
	if all < 1 || done > all {
		return
	}
	t.step, t.steps, t.phase = done, all, denoise
	if done == all {
		t.phase = afterSteps
	}
}

// where is the phase of something that a line says: that of the traceback it ends, or
// the log's.
func (t *tracker) where(l line) string {
	const long = 200 // lines of a traceback
	if p := t.trace[l.rank]; p != "" && t.traceLines[l.rank] < long {
		return p
	}
	return t.phase
}

// framePhase is the phase in which a frame of a traceback is: the innermost frame that
// says one counts.
func framePhase(lower string) string {
	in := func(names ...string) bool {
		for _, n := range names {
			if !strings.Contains(lower, n) {
				return false
			}
		}
		return true
	}
	switch {
	case in("vae.py", "in encode") || in("autoencoder_kl_wan", "encode"):
		return vaeEncode
	case in("vae.py", "in decode") || in("autoencoder_kl_wan", "decode"):
		return vaeDecode
	case in("in vae_decode") || in("decode_latents"):
		return vaeDecode
	case in("/t5.py", "in __call__") || in("encode_prompt"):
		return textEncode
	case in("/t5.py", "in __init__") || in("umt5"):
		return loadT5
	case in("/clip.py", "in visual") || in("encode_image"):
		return imgEncode
	case in("/clip.py", "in __init__"):
		return loadCLIP
	case in("/vae.py", "in __init__"):
		return loadVAE
	case in("in cache_video") || in("in cache_image") || in("export_to_video"):
		return write
	case in("usp_dit_forward") || in("modules/model.py", "in forward") || in("transformer_wan.py", "in forward"):
		return denoise
	case in("image2video.py", "in __init__") || in("text2video.py", "in __init__") || in("from_pretrained") || in("shard_model"):
		return loadDiT
	}
	return ""
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
