package safetensors

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/internal/checkpoint/strictjson"
)

// MaxIndex is the size limit of an index file.
const MaxIndex = 16 << 20

const maxShards = 1000

// readIndex returns the weight_map of an index: the shard of each tensor.
func readIndex(data []byte) (map[string]string, error) {
	r, err := strictjson.New(data, maxDepth)
	if err != nil {
		return nil, err
	}
	var weights map[string]string
	err = r.Object(func(key string) error {
		if key != "weight_map" {
			return r.Skip()
		}
		weights = map[string]string{}
		return r.Object(func(name string) error {
			shard, err := r.String()
			switch {
			case err != nil:
				return fmt.Errorf("tensor %.64q: %w", name, err)
			case len(weights) == maxTensors:
				return fmt.Errorf("more than %d tensors, from %.64q on", maxTensors, name)
			case !file.IsPlain(string(shard)) || !strings.HasSuffix(string(shard), ".safetensors"):
				return fmt.Errorf("tensor %.64q: shard %.128q is not the name of a .safetensors file in the same folder", name, shard)
			}
			weights[name] = string(shard)
			return nil
		})
	})
	switch {
	case err != nil:
		return nil, err
	case len(weights) == 0:
		return nil, fmt.Errorf("there is no weight_map, or nothing in it")
	}
	return weights, r.End()
}

// OpenSharded returns the tensors of all shards that an index, the content of
// the file indexName in dir, lists. Shards and index must agree on every tensor.
func OpenSharded(dir *file.Folder, indexName string, index []byte) (*Source, error) {
	weights, err := readIndex(index)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexName, err)
	}
	names := shardNames(weights)
	if len(names) > maxShards {
		return nil, fmt.Errorf("%s: %d shards, at most %d allowed", indexName, len(names), maxShards)
	}
	var missing []string
	for _, name := range names {
		if !dir.Has(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s: %d of %d shards are missing (or links that lead out of the folder): %s",
			indexName, len(missing), len(names), list(missing))
	}
	s := &Source{}
	if err := s.open(dir, names); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.agree(weights, names); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", indexName, err), s.Close())
	}
	return s, nil
}

func (s *Source) open(dir *file.Folder, names []string) error {
	for _, name := range names {
		f, err := dir.Open(name)
		if err != nil {
			return fmt.Errorf("open shard: %w", err)
		}
		if err := s.add(f); err != nil {
			return err
		}
	}
	return s.index()
}

// agree checks that each shard holds what the index says, and nothing else.
func (s *Source) agree(weights map[string]string, names []string) error {
	for _, name := range s.names {
		shard := names[s.where[name].shard]
		switch weights[name] {
		case shard:
		case "":
			return fmt.Errorf("tensor %q of shard %s is not in the index", name, shard)
		default:
			return fmt.Errorf("tensor %q is in shard %s, the index says %s", name, shard, weights[name])
		}
	}
	var lost []string
	for name, shard := range weights {
		if _, ok := s.where[name]; !ok {
			lost = append(lost, fmt.Sprintf("%q of %s", name, shard))
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		return fmt.Errorf("%d tensors are not in their shard: %s", len(lost), list(lost))
	}
	return nil
}

// shardNames returns each shard once, in the order of their numbers.
func shardNames(weights map[string]string) []string {
	seen := map[string]bool{}
	var names []string
	for _, shard := range weights {
		if !seen[shard] {
			seen[shard] = true
			names = append(names, shard)
		}
	}
	slices.SortFunc(names, cmp.Compare[string])
	return names
}

// list joins the first dozen items.
func list(items []string) string {
	const most = 12
	if len(items) <= most {
		return strings.Join(items, ", ")
	}
	return strings.Join(items[:most], ", ") + fmt.Sprintf(" and %d more", len(items)-most)
}
