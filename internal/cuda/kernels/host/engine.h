// engine.h - what the server asks of the engine.
#pragma once
#include <string>
namespace host {
struct Grid { u32 x, y, z, threads, shared; };
// Bytes behind shared memory that must stay untouched.
constexpr size_t kMargin = 512;
// Returns "" or what went wrong.
std::string launch(const std::string &name, const Grid &g, u64 *args, int num_args, u64 seed, int num_threads);
}
