#!/usr/bin/env bash
# A real Slurm cluster on this machine: one controller, two virtual nodes of 16 CPUs
# and 8 pretended GPUs each, all on loopback and in one private folder.
#
#   eval "$(tools/slurm-cluster.sh start DIR)"   # exports SLURM_CONF; DIR must be new
#   srun -N2 hostname
#   tools/slurm-cluster.sh stop DIR              # ends all of it and removes DIR
#
# Needs Debian's slurmctld, slurmd, slurm-client and munge; it uses neither their
# services nor /etc, and only processes that it started are ever signalled. Both nodes
# share this machine's host name, address and file system: tell them apart by
# SLURMD_NODENAME.
set -euo pipefail

# slurmctld, slurmd and munged are in sbin, which an ordinary user's PATH may lack.
export PATH="$PATH:/usr/sbin:/sbin"
nodes=(gpu-01 gpu-02)

die() {
  echo "slurm-cluster: $*" >&2
  exit 1
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS > deadline)); then
      tail -n 20 "$dir"/log/{slurm,munge}*.log >&2 || true
      die "no $what within the time limit"
    fi
    sleep 0.05
  done
}

# free_ports N: the first of N ports in a row that nobody listens on, below the range
# that the kernel gives out.
free_ports() {
  local count=$1 first port
  for _ in $(seq 50); do
    first=$((10000 + RANDOM % 9000))
    for ((port = first; port < first + count; port++)); do
      if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
    done
    echo "$first"
    return
  done
  die "no $count free ports in a row"
}

write_config() {
  local host user port
  host=$(hostname -s)
  user=$(id -un)
  port=$(free_ports 68)
  # OverSubscribe lets tests share the nodes.
  cat >"$dir/slurm.conf" <<CONF
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=$port
SrunPortRange=$((port + 3))-$((port + 67))
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=0,bf_interval=1,requeue_delay=1
ReturnToService=2
KillWait=5
MpiDefault=none
GresTypes=gpu
NodeName=gpu-[01-02] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=16 Sockets=2 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=4000 Gres=gpu:8 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
CONF
  # Any character devices do as GPUs where no cgroup guards them.
  local i
  for i in {0..7}; do ln -s /dev/null "$dir/gpu$i"; done
  echo "NodeName=gpu-[01-02] Name=gpu File=$dir/gpu[0-7]" >"$dir/gres.conf"
  # Since 23.11 slurmd looks for cgroups unless told not to; older ones know no such plugin.
  if [[ $(slurmd -V) =~ \ ([0-9]+)\.([0-9]+) ]] && ((10#${BASH_REMATCH[1]}${BASH_REMATCH[2]} >= 2302)); then
    echo "CgroupPlugin=disabled" >"$dir/cgroup.conf"
  fi
}

start() {
  for program in munged slurmctld slurmd srun; do
    command -v "$program" >/dev/null || die "$program is missing: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
  done
  getent hosts "$(hostname -s)" >/dev/null ||
    die "the name of this machine, $(hostname -s), does not resolve: add \"127.0.0.1 $(hostname -s)\" to /etc/hosts"
  [[ ! -e $dir ]] || die "$dir exists already"
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd -P)
  mkdir "$dir/log"
  # In the background, as errexit counts for nothing in a condition.
  bring_up >"$dir/log/start.log" 2>&1 </dev/null &
  if ! wait "$!"; then
    tail -n 40 "$dir/log/start.log" >&2
    stop
    exit 1
  fi
  echo "export SLURM_CONF='$dir/slurm.conf'"
}

bring_up() {
  ((${#dir} <= 70)) || die "$dir is too long a path for Unix sockets; use a shorter one"
  chmod 755 "$dir" # munged wants its socket reachable
  mkdir "$dir"/{munge,state} "${nodes[@]/#/$dir/spool-}"
  write_config
  export SLURM_CONF="$dir/slurm.conf"
  (umask 077 && dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 status=none)
  # --force: the folder may lie below one that others may write to.
  munged --force --socket="$dir/munge/socket" --key-file="$dir/munge/key" --pid-file="$dir/munged.pid" \
    --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed"
  wait_for 10 "munge" munge_works
  slurmctld -i
  wait_for 10 "slurmctld" controller_is_up
  for node in "${nodes[@]}"; do slurmd -N "$node"; done
  wait_for 20 "idle nodes" nodes_are_idle
}

munge_works() { munge -n -S "$dir/munge/socket" | unmunge -S "$dir/munge/socket"; }
controller_is_up() { scontrol ping | grep -q 'UP$\|is UP'; }
nodes_are_idle() { [[ $(sinfo -h -t idle -o %D) == "${#nodes[@]}" ]]; }

# ours: the ids of this cluster's processes, which carry its folder in their
# environment: daemons, step daemons, and what runs in jobs.
ours() {
  local proc
  for proc in /proc/[0-9]*; do
    if tr '\0' '\n' 2>/dev/null <"$proc/environ" | grep -qxF "SLURM_CONF=$dir/slurm.conf"; then
      [[ ${proc#/proc/} == "$$" || ${proc#/proc/} == "$BASHPID" ]] || echo "${proc#/proc/}"
    fi
  done
}

pid_of() { [[ -s $1 ]] && read -r pid <"$1" && kill -0 "$pid" 2>/dev/null && echo "$pid"; }

stop() {
  set +e
  [[ -f $dir/log/start.log ]] || die "$dir holds no cluster"
  dir=$(cd "$dir" && pwd -P)
  # Not exported: this script's own children must not look like the cluster's.
  export -n SLURM_CONF
  local pid pids=() deadline
  if pid_of "$dir/slurmctld.pid" >/dev/null; then
    SLURM_CONF="$dir/slurm.conf" timeout 5 scancel --signal=KILL --full -u "$(id -un)" 2>/dev/null
    SLURM_CONF="$dir/slurm.conf" timeout 5 scancel -u "$(id -un)" 2>/dev/null
    deadline=$((SECONDS + 8))
    until [[ -z $(SLURM_CONF="$dir/slurm.conf" timeout 5 squeue -h 2>/dev/null) ]] || ((SECONDS > deadline)); do sleep 0.1; done
  fi
  for file in "$dir"/slurmd-*.pid "$dir/slurmctld.pid" "$dir/munged.pid"; do
    pid=$(pid_of "$file") && kill "$pid" && pids+=("$pid")
  done
  deadline=$((SECONDS + 10))
  for pid in "${pids[@]}"; do
    while kill -0 "$pid" 2>/dev/null && ((SECONDS < deadline)); do sleep 0.05; done
    kill -9 "$pid" 2>/dev/null
  done
  # What a killed step daemon has left behind.
  for pid in $(ours); do
    echo "slurm-cluster: still running, killed: $pid $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")" >&2
    kill -9 "$pid" 2>/dev/null
  done
  rm -rf "$dir"
}

dir=${2:-}
[[ -n $dir ]] || die "usage: slurm-cluster.sh start|stop DIR"
case ${1:-} in
start) start ;;
stop) stop ;;
*) die "usage: slurm-cluster.sh start|stop DIR" ;;
esac
