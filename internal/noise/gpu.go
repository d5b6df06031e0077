package noise

// GPU holds what the layout of torch's CUDA noise depends on.
type GPU struct {
	Name         string
	NumSMs       int // streaming multiprocessors that the product has enabled
	ThreadsPerSM int // most threads resident on one
}

// GPUs are the models known by name. SM counts are those of NVIDIA's
// architecture white papers and product data sheets (CUDA cores divided by the cores of
// an SM); threads per SM are those of the CUDA programming guide's table of compute
// capabilities: 2048 for 6.0, 7.0, 8.0, 9.0 and 10.0; 1024 for 7.5; 1536 for 8.6, 8.9 and 12.0.
var GPUs = []GPU{
	{"h100", 132, 2048}, // SXM5
	{"h100pcie", 114, 2048},
	{"h100nvl", 132, 2048},
	{"h800", 132, 2048}, // SXM5
	{"h200", 132, 2048},
	{"gh200", 132, 2048},
	{"h20", 78, 2048},
	{"b200", 148, 2048},
	{"a100", 108, 2048}, // SXM4 and PCIe, 40 and 80 GB
	{"a800", 108, 2048},
	{"a30", 56, 2048},
	{"a10", 72, 1536},
	{"a40", 84, 1536},
	{"a6000", 84, 1536}, // RTX A6000
	{"a5000", 64, 1536}, // RTX A5000
	{"l4", 58, 1536},
	{"l40", 142, 1536},
	{"l40s", 142, 1536},
	{"rtx6000ada", 142, 1536},
	{"rtx3080", 68, 1536},
	{"rtx3090", 82, 1536},
	{"rtx3090ti", 84, 1536},
	{"rtx4080", 76, 1536},
	{"rtx4090", 128, 1536},
	{"rtx4090d", 114, 1536},
	{"rtx5090", 170, 1536},
	{"rtxpro6000", 188, 1536}, // Blackwell, workstation and server
	{"v100", 80, 2048},
	{"p100", 56, 2048},
	{"t4", 40, 1024},
	{"rtx2080ti", 68, 1024},
}
