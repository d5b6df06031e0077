// server.cc obeys a test over stdin and stdout: memory, launches, memory back.
// Each allocation ends at a page that may not be touched, and begins behind one.
//
//	A size bytes[size]                            -> address
//	R address size                                -> bytes[size]
//	F                                             -> nothing; frees everything
//	L name gx gy gz threads shared seed n args[n] -> "" or what went wrong
//
// Numbers are little-endian, 64 bits; a string is its length and its bytes.
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
#include "engine.h"

namespace {
struct Block { u8 *map, *data; size_t mapped, size; };
std::vector<Block> blocks;
char running[128] = "no kernel";
const size_t kPage = 4096;

void in(void *p, size_t n) { if (fread(p, 1, n, stdin) != n) exit(0); }
u64 number() { u64 v; in(&v, 8); return v; }
std::string text() { std::string s(number(), 0); in(&s[0], s.size()); return s; }
void out(const void *p, size_t n) { fwrite(p, 1, n, stdout); }

u8 *allocate(size_t size) {
  const size_t padded = (size + 15) & ~(size_t)15, body = (padded + kPage - 1) / kPage * kPage;
  u8 *map = (u8 *)mmap(nullptr, body + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED || mprotect(map + kPage, body, PROT_READ | PROT_WRITE)) { fprintf(stderr, "out of memory\n"); exit(2); }
  memset(map + kPage, 0xff, body);
  blocks.push_back({map, map + kPage + body - padded, body + 2 * kPage, size});
  return blocks.back().data;
}

// What lies between the allocation and the pages must still be 0xff.
std::string margins() {
  for (size_t i = 0; i < blocks.size(); i++) {
    const Block &b = blocks[i];
    for (const u8 *p = b.map + kPage; p < b.map + b.mapped - kPage; p++)
      if ((p < b.data || p >= b.data + b.size) && *p != 0xff)
        return "wrote " + std::to_string(p < b.data ? p - b.data : p - b.data - (long)b.size) + " bytes off allocation " + std::to_string(i);
  }
  return "";
}

void fault(int, siginfo_t *info, void *) {
  const u8 *at = (const u8 *)info->si_addr;
  char line[256];
  int n = snprintf(line, sizeof line, "%s touched address %p", running, (const void *)at);
  for (size_t i = 0; i < blocks.size(); i++)
    if (at >= blocks[i].map && at < blocks[i].map + blocks[i].mapped)
      n = snprintf(line, sizeof line, "%s touched byte %ld of allocation %zu, which has %zu", running, (long)(at - blocks[i].data), i, blocks[i].size);
  if (write(2, line, n) < 0) {}
  _exit(3);
}
}  // namespace

int main(int argc, char **argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  struct sigaction sa = {};
  sa.sa_sigaction = fault;
  sa.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &sa, nullptr);
  sigaction(SIGBUS, &sa, nullptr);
  for (;;) {
    char op;
    in(&op, 1);
    if (op == 'A') {
      const size_t n = number();
      u8 *p = allocate(n);
      in(p, n);
      const u64 address = (u64)p;
      out(&address, 8);
    } else if (op == 'R') {
      const u8 *p = (const u8 *)number();
      out(p, number());
    } else if (op == 'F') {
      for (auto &b : blocks) munmap(b.map, b.mapped);
      blocks.clear();
    } else if (op == 'L') {
      const std::string name = text();
      host::Grid g;
      g.x = number(), g.y = number(), g.z = number(), g.threads = number(), g.shared = number();
      const u64 seed = number();
      std::vector<u64> args(number());
      for (auto &a : args) a = number();
      snprintf(running, sizeof running, "%s", name.c_str());
      std::string error = host::launch(name, g, args.data(), (int)args.size(), seed, threads);
      if (error.empty()) error = margins();
      const u64 n = error.size();
      out(&n, 8);
      out(error.data(), n);
    }
    fflush(stdout);
  }
}
