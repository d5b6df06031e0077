package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/internal/checkpoint/safetensors"
	"github.com/wanrun/wanrun/internal/checkpoint/torchzip"
)

// The files of the official layout.
const (
	configFile   = "config.json"
	specFile     = "model_spec.json"
	ditFile      = "diffusion_pytorch_model.safetensors"
	ditIndexFile = "diffusion_pytorch_model.safetensors.index.json"
	t5File       = "models_t5_umt5-xxl-enc-bf16.pth"
	clipFile     = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
	vaeFile      = "Wan2.1_VAE.pth"
	tokenizerDir = "google/umt5-xxl"
)

const maxConfig = 1 << 20 // bytes of config.json and model_spec.json

// Checkpoint is an opened model. Its tensors are opened model by model, and each
// Source is closed by who opened it.
type Checkpoint struct {
	Spec Spec
	// SpecJSON is the content of model_spec.json, nil if there is none: besides
	// hyper-parameters it holds a task's defaults, which are not read here.
	SpecJSON []byte
	dir      *file.Folder
}

// OpenDir opens the model in a directory, whose files are mapped, not read.
// Errors: ErrCheckpoint.
func OpenDir(path string) (*Checkpoint, error) {
	dir, err := file.OpenDir(path)
	if err != nil {
		return nil, failf("open %s: %w", path, err)
	}
	return open(dir)
}

// OpenFS opens the model in a file system, such as an embedded one; name is for
// messages. Errors: ErrCheckpoint.
func OpenFS(name string, fsys fs.FS) (*Checkpoint, error) { return open(file.OpenFS(name, fsys)) }

func open(dir *file.Folder) (*Checkpoint, error) {
	c := &Checkpoint{dir: dir}
	if err := c.read(); err != nil {
		return nil, errors.Join(failf("%s: %w", dir.Name(), err), dir.Close())
	}
	return c, nil
}

func (c *Checkpoint) read() error {
	if what := identifyFolder(c.dir); what != "" {
		return errors.New(what)
	}
	if !c.dir.Has(configFile) {
		return fmt.Errorf("there is no %s: is this the folder of a Wan2.1 model? It should hold %s",
			configFile, strings.Join([]string{configFile, ditFile + " (or its shards and index)", t5File, vaeFile, tokenizerDir}, ", "))
	}
	config, err := c.dir.ReadSmall(configFile, maxConfig)
	if err != nil {
		return err
	}
	if c.dir.Has(specFile) {
		if c.SpecJSON, err = c.dir.ReadSmall(specFile, maxConfig); err != nil {
			return err
		}
	}
	if c.Spec, err = parseSpec(config, c.SpecJSON); err != nil {
		return err
	}
	return c.checkFiles()
}

// checkFiles names all files that the model needs and that are not there.
func (c *Checkpoint) checkFiles() error {
	needed := []string{t5File, vaeFile, tokenizerDir}
	if c.Spec.DiT.HasImage() {
		needed = append(needed, clipFile)
	}
	var missing []string
	if !c.dir.Has(ditFile) && !c.dir.Has(ditIndexFile) {
		missing = append(missing, ditFile+" (or "+ditIndexFile+")")
	}
	for _, name := range needed {
		if !c.dir.Has(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("files are missing, or links that lead out of the folder: %s", strings.Join(missing, ", "))
	}
	return nil
}

// DiT opens the tensors of the diffusion transformer. Errors: ErrCheckpoint.
func (c *Checkpoint) DiT() (Source, error) {
	src, err := c.openDiT()
	if err != nil {
		return nil, failf("diffusion transformer: %w", err)
	}
	if what := identifyDiT(src.Names(), c.Spec.DiT.ModelType); what != "" {
		return nil, errors.Join(failf("%s: %s", c.dir.Name(), what), src.Close())
	}
	return src, nil
}

func (c *Checkpoint) openDiT() (Source, error) {
	if c.dir.Has(ditIndexFile) {
		index, err := c.dir.ReadSmall(ditIndexFile, safetensors.MaxIndex)
		if err != nil {
			return nil, err
		}
		return found(safetensors.OpenSharded(c.dir, ditIndexFile, index))
	}
	f, err := c.dir.Open(ditFile)
	if err != nil {
		return nil, err
	}
	return found(safetensors.New(f))
}

// found keeps a nil pointer from becoming a Source that is not nil.
func found[S Source](src S, err error) (Source, error) {
	if err != nil {
		return nil, err
	}
	return src, nil
}

// T5 opens the tensors of the text encoder. Errors: ErrCheckpoint.
func (c *Checkpoint) T5() (Source, error) { return c.openTorch("text encoder", t5File) }

// VAE opens the tensors of the VAE. Errors: ErrCheckpoint.
func (c *Checkpoint) VAE() (Source, error) { return c.openTorch("VAE", vaeFile) }

// CLIP opens the tensors of the image encoder, with those of the text tower that
// lie in the same file. Errors: ErrCheckpoint.
func (c *Checkpoint) CLIP() (Source, error) {
	if !c.Spec.DiT.HasImage() {
		return nil, failf("%s: a %s model has no image encoder", c.dir.Name(), c.Spec.DiT.ModelType)
	}
	return c.openTorch("image encoder", clipFile)
}

func (c *Checkpoint) openTorch(model, name string) (Source, error) {
	f, err := c.dir.Open(name)
	if err != nil {
		return nil, failf("%s: %w", model, err)
	}
	src, err := found(torchzip.New(f))
	if err != nil {
		return nil, failf("%s: %w", model, err)
	}
	return src, nil
}

// Tokenizer returns the folder of the tokenizer's files. Errors: ErrCheckpoint.
func (c *Checkpoint) Tokenizer() (fs.FS, error) {
	fsys, err := fs.Sub(c.dir.FS(), tokenizerDir)
	if err != nil {
		return nil, failf("tokenizer: %w", err)
	}
	return fsys, nil
}

// Close lets go of the folder. Sources that were opened stay open.
func (c *Checkpoint) Close() error { return c.dir.Close() }
