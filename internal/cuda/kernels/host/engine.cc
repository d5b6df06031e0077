// engine.cc runs kernels block by block, each thread a fibre. Shared memory and
// fresh memory are NaN. Warps and lanes take turns in an order shuffled by a seed,
// so that a missing barrier is not hidden by a lucky order.
#include <sys/mman.h>
#include <algorithm>
#include <cstring>
#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#include "host.h"
#include "engine.h"

#if defined(__x86_64__) && !defined(WANRUN_UCONTEXT)
struct Context { void *sp; };
extern "C" void wanrun_switch(void **save, void *to);
asm(".text\n.globl wanrun_switch\n.type wanrun_switch,@function\nwanrun_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size wanrun_switch,.-wanrun_switch\n");
static void start(Context &c, u8 *stack, size_t size, void (*entry)()) {
  void **s = (void **)(stack + size);
  *--s = nullptr;  // keeps the entry's frame aligned as a call would
  *--s = (void *)entry;
  for (int i = 0; i < 6; i++) *--s = nullptr;
  c.sp = s;
}
static void change(Context &from, Context &to) { wanrun_switch(&from.sp, to.sp); }
#else
#include <ucontext.h>
struct Context { ucontext_t u; };
static void start(Context &c, u8 *stack, size_t size, void (*entry)()) {
  getcontext(&c.u);
  c.u.uc_stack.ss_sp = stack;
  c.u.uc_stack.ss_size = size;
  c.u.uc_link = nullptr;
  makecontext(&c.u, entry, 0);
}
static void change(Context &from, Context &to) { swapcontext(&from.u, &to.u); }
#endif

namespace host {
__thread Self self;
namespace {
enum State : u8 { READY, AT_BARRIER, AT_EXCHANGE, DONE };
struct Copy { u8 *to; const u8 *from; bool ok; int group; };
struct Fibre { Context c; u8 *stack; State state; int line; u32 phase; int group; std::vector<Copy> copies; };
struct Warp { alignas(64) u8 slot[2][32][64]; int arrived, op; };
constexpr size_t kStack = 64 << 10;

struct Engine {
  Context main;
  std::vector<Fibre> fibres;
  std::vector<Warp> warps;
  std::vector<u32> order;
  std::vector<u8> memory;
  u8 *shared;
  u32 shared_bytes, current, n;
  const Kernel *kernel;
  u64 *args;
  std::string error;
  std::mt19937 random;
  void leave() {
    change(fibres[current].c, main);
    self.thread = current;
  }
};
__thread Engine *engine;

void entry() {
  Engine *e = engine;
  e->kernel->call(e->args);
  Fibre &f = e->fibres[e->current];
  if (!f.copies.empty() && e->error.empty()) e->error = "a thread ended with copies that it never waited for";
  f.state = DONE;
  e->leave();
  __builtin_trap();
}
std::map<std::string, Kernel> &table() {
  static std::map<std::string, Kernel> t;
  return t;
}
void fail(Engine &e, const std::string &s) { if (e.error.empty()) e.error = s; }

// Runs every ready fibre of a warp until none is.
bool run_warp(Engine &e, u32 first) {
  bool ran = false;
  std::vector<u32> lanes;
  for (u32 i = first; i < std::min(first + 32, e.n); i++) lanes.push_back(i);
  for (bool again = true; again;) {
    again = false;
    std::shuffle(lanes.begin(), lanes.end(), e.random);
    for (u32 i : lanes)
      if (e.fibres[i].state == READY) {
        e.current = i;
        self.thread = i;
        change(e.main, e.fibres[i].c);
        ran = again = true;
      }
  }
  return ran;
}

void run_block(Engine &e) {
  memset(e.memory.data(), 0xff, e.memory.size());
  for (auto &w : e.warps) w.arrived = 0;
  for (u32 i = 0; i < e.n; i++) {
    Fibre &f = e.fibres[i];
    start(f.c, f.stack, kStack, entry);
    f.state = READY;
    f.phase = 0;
    f.group = 0;
    f.copies.clear();
  }
  for (;;) {
    std::shuffle(e.order.begin(), e.order.end(), e.random);
    bool ran = false;
    for (u32 w : e.order) ran |= run_warp(e, 32 * w);
    u32 done = 0, waiting = 0, line = 0;
    bool lines_differ = false;
    for (auto &f : e.fibres) {
      done += f.state == DONE;
      if (f.state == AT_BARRIER) {
        lines_differ |= waiting && (u32)f.line != line;
        line = f.line;
        waiting++;
      }
    }
    if (!e.error.empty() || done == e.n) break;
    if (lines_differ && waiting == e.n) return fail(e, "threads met at different barriers, one on line " + std::to_string(line));
    if (waiting == e.n) {
      for (auto &f : e.fibres) f.state = READY;
      continue;
    }
    if (!ran) return fail(e, "deadlock: " + std::to_string(waiting) + " threads at a barrier (line " + std::to_string(line) + "), " +
                             std::to_string(done) + " ended, " + std::to_string(e.n - waiting - done) + " in an instruction of their warp");
  }
  for (size_t i = 0; i < kMargin; i++)
    if (e.shared[e.shared_bytes + i] != 0xff) return fail(e, "wrote behind the launch's shared memory");
}
}  // namespace

void block_barrier(int line) {
  Fibre &f = engine->fibres[engine->current];
  f.state = AT_BARRIER;
  f.line = line;
  engine->leave();
}
const u8 *exchange(int op, const void *mine, int n) {
  Engine *e = engine;
  Fibre &f = e->fibres[e->current];
  Warp &w = e->warps[e->current >> 5];
  const u32 phase = f.phase++ & 1;
  memcpy(w.slot[phase][e->current & 31], mine, n);
  if (w.arrived++ == 0) w.op = op;
  else if (w.op != op) fail(*e, "lanes of one warp met in different instructions");
  if (w.arrived < 32) {
    f.state = AT_EXCHANGE;
    e->leave();
  } else {
    w.arrived = 0;
    for (u32 i = e->current & ~31u, end = i + 32; i < end; i++)
      if (e->fibres[i].state == AT_EXCHANGE) e->fibres[i].state = READY;
  }
  return &w.slot[phase][0][0];
}
void copy_async(void *to, const void *from, bool ok) {
  Fibre &f = engine->fibres[engine->current];
  if (((uintptr_t)to | (ok ? (uintptr_t)from : 0)) & 15) fail(*engine, "an asynchronous copy is not aligned to 16 bytes");
  memset(to, 0xff, 16);
  f.copies.push_back({(u8 *)to, (const u8 *)from, ok, f.group});
}
void copy_commit() { engine->fibres[engine->current].group++; }
void copy_wait(int left) {
  Fibre &f = engine->fibres[engine->current];
  size_t i = 0;
  for (; i < f.copies.size() && f.copies[i].group < f.group - left; i++) {
    const Copy &c = f.copies[i];
    if (c.ok) memcpy(c.to, c.from, 16);
    else memset(c.to, 0, 16);
  }
  f.copies.erase(f.copies.begin(), f.copies.begin() + i);
}
void add(Kernel k) { table()[k.name] = k; }

std::string launch(const std::string &name, const Grid &g, u64 *args, int num_args, u64 seed, int num_threads) {
  const auto found = table().find(name);
  if (found == table().end()) return "there is no kernel " + name;
  const Kernel &k = found->second;
  if (k.num_args != num_args) return name + " takes " + std::to_string(k.num_args) + " arguments, got " + std::to_string(num_args);
  if (g.threads == 0 || g.threads % 32 || g.threads > k.max_threads) return "a block of " + std::to_string(g.threads) + " threads; the kernel allows " + std::to_string(k.max_threads);
  if (!g.x || !g.y || !g.z || g.y > 65535 || g.z > 65535 || g.x > 0x7fffffff) return "a grid that is empty or too large";
  const u64 total = (u64)g.x * g.y * g.z;
  std::atomic<u64> next{0};
  std::atomic<bool> bad{false};
  std::vector<std::string> errors(num_threads);
  auto work = [&](std::string *out) {
    Engine e;
    e.kernel = &k, e.args = args, e.n = g.threads, e.shared_bytes = g.shared;
    e.fibres.resize(g.threads);
    e.warps.resize(g.threads / 32);
    e.memory.resize(g.shared + kMargin + 128);
    e.shared = (u8 *)(((uintptr_t)e.memory.data() + 127) & ~(uintptr_t)127);
    for (u32 i = 0; i < g.threads / 32; i++) e.order.push_back(i);
    u8 *stacks = (u8 *)mmap(nullptr, kStack * g.threads, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (u32 i = 0; i < g.threads; i++) e.fibres[i].stack = stacks + kStack * i;
    engine = &e;
    for (u64 b; !bad && (b = next++) < total;) {
      e.random.seed((u32)(seed + b));
      self = Self{0, (u32)(b % g.x), (u32)(b / g.x % g.y), (u32)(b / g.x / g.y), g.threads, g.x, e.shared};
      run_block(e);
      if (!e.error.empty()) {
        bad = true;
        *out = "block " + std::to_string(b) + ": " + e.error;
      }
    }
    munmap(stacks, kStack * g.threads);
    engine = nullptr;
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < num_threads; i++) threads.emplace_back(work, &errors[i]);
  work(&errors[0]);
  for (auto &t : threads) t.join();
  for (auto &s : errors) if (!s.empty()) return s;
  return "";
}
}  // namespace host
