package synthetic

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// The names of types in safetensors files.
var safetensorsNames = map[tensor.DType]string{tensor.F32: "F32", tensor.BF16: "BF16", tensor.F16: "F16"}

// writeSafetensors writes one file of weights: header length, header, tensors.
// Source: https://github.com/huggingface/safetensors, README.md, "Format".
func writeSafetensors(to *out, all []weight, seed uint64, sparse bool) error {
	type record struct {
		DType   string       `json:"dtype"`
		Shape   tensor.Shape `json:"shape"`
		Offsets [2]int64     `json:"data_offsets"`
	}
	records, at := map[string]any{"__metadata__": map[string]string{"format": "pt"}}, int64(0)
	for _, w := range all {
		records[w.Name] = record{safetensorsNames[w.dtype], w.Shape, [2]int64{at, at + w.bytes()}}
		at += w.bytes()
	}
	header, err := json.Marshal(records)
	if err != nil {
		return err
	}
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	if _, err := to.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)); err != nil {
		return err
	}
	for _, w := range all {
		if err := w.write(to, seed, sparse); err != nil {
			return err
		}
	}
	return nil
}

// shards divides weights, in order, into files of at most limit bytes, unless one
// tensor has more; 0 makes one file.
func shards(all []weight, limit int64) (parts [][]weight) {
	size := int64(0)
	for _, w := range all {
		if len(parts) == 0 || limit > 0 && size > 0 && size+w.bytes() > limit {
			parts, size = append(parts, nil), 0
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], w)
		size += w.bytes()
	}
	return parts
}

// shardName names file i of n.
func shardName(i, n int) string {
	if n == 1 {
		return ditStem + ".safetensors"
	}
	return fmt.Sprintf("%s-%05d-of-%05d.safetensors", ditStem, i+1, n)
}

// index returns the file that says in which shard each tensor is.
func index(parts [][]weight) ([]byte, error) {
	names, size := map[string]string{}, int64(0)
	for i, part := range parts {
		for _, w := range part {
			names[w.Name] = shardName(i, len(parts))
			size += w.bytes()
		}
	}
	return json.MarshalIndent(map[string]any{"metadata": map[string]int64{"total_size": size}, "weight_map": names}, "", "  ")
}
