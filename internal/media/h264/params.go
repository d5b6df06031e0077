package h264

// levelLimits are MaxMBPS and MaxFS of Table A-1, and the level_idc that has them.
var levelLimits = []struct{ idc, maxRate, maxSize int }{
	{10, 1485, 99}, {11, 3000, 396}, {12, 6000, 396}, {13, 11880, 396}, {21, 19800, 792},
	{22, 20250, 1620}, {30, 40500, 1620}, {31, 108000, 3600}, {32, 216000, 5120},
	{40, 245760, 8192}, {42, 522240, 8704}, {50, 589824, 22080}, {51, 983040, 36864},
	{52, 2073600, 36864}, {60, 4177920, 139264}, {61, 8355840, 139264}, {62, 16711680, 139264},
}

// levelFor is the lowest level that allows this size, in macroblocks, and rate;
// 0 if there is none. The limits on bits a second are not looked at: a constant
// quantiser promises none, and players do not check.
func levelFor(mbW, mbH, fps int) int {
	size := mbW * mbH
	for _, l := range levelLimits {
		if size <= l.maxSize && size*fps <= l.maxRate && mbW*mbW <= 8*l.maxSize && mbH*mbH <= 8*l.maxSize {
			return l.idc
		}
	}
	return 0
}

// Colour description, Tables E-3 to E-5: the pictures are sRGB, and the matrix
// is BT.601 in limited range, which is what players assume for small pictures
// when nothing is said and what the official writer's files have.
const (
	ColourPrimaries = 1  // BT.709, those of sRGB
	ColourTransfer  = 13 // IEC 61966-2-1, sRGB
	ColourMatrix    = 6  // BT.601
)

const (
	log2MaxFrameNum = 8
	profileIDC      = 66   // Baseline
	constraintFlags = 0xC0 // constraint_set0 and 1: Constrained Baseline
)

// sps is the sequence parameter set (clause 7.3.2.1.1 and E.1.1).
func sps(cfg Config, mbW, mbH, level int) []byte {
	var w bitWriter
	w.put(profileIDC, 8)
	w.put(constraintFlags, 8)
	w.put(uint32(level), 8)
	w.ue(0) // seq_parameter_set_id
	w.ue(log2MaxFrameNum - 4)
	w.ue(2) // pic_order_cnt_type: output order is decoding order
	w.ue(1) // max_num_ref_frames
	w.flag(false)
	w.ue(uint32(mbW - 1))
	w.ue(uint32(mbH - 1))
	w.flag(true) // frame_mbs_only_flag
	w.flag(true) // direct_8x8_inference_flag
	right, bottom := 16*mbW-cfg.Width, 16*mbH-cfg.Height
	crop := right > 0 || bottom > 0
	w.flag(crop)
	if crop { // in units of two samples for 4:2:0
		w.ue(0)
		w.ue(uint32(right / 2))
		w.ue(0)
		w.ue(uint32(bottom / 2))
	}
	w.flag(true) // vui_parameters_present_flag
	w.flag(true) // aspect ratio
	w.put(1, 8)  // square
	w.flag(false)
	w.flag(true) // video_signal_type_present_flag
	w.put(5, 3)  // video_format: unspecified
	w.flag(false)
	w.flag(true)
	w.put(ColourPrimaries, 8)
	w.put(ColourTransfer, 8)
	w.put(ColourMatrix, 8)
	w.flag(true) // chroma_loc_info_present_flag: left, which is also the default
	w.ue(0)
	w.ue(0)
	w.flag(true) // timing_info_present_flag; a tick is half a frame
	w.put(1, 32)
	w.put(uint32(2*cfg.FPS), 32)
	w.flag(true)  // fixed_frame_rate_flag
	w.flag(false) // nal_hrd_parameters_present_flag
	w.flag(false) // vcl_hrd_parameters_present_flag
	w.flag(false) // pic_struct_present_flag
	w.flag(true)  // bitstream_restriction_flag, so that no decoder waits for reordering
	w.flag(true)  // motion_vectors_over_pic_boundaries_flag
	w.ue(0)
	w.ue(0)
	w.ue(10) // log2 of the longest motion vector, quarter samples
	w.ue(10)
	w.ue(0) // max_num_reorder_frames
	w.ue(1) // max_dec_frame_buffering
	w.trailing()
	return w.buf
}

// pps is the picture parameter set (clause 7.3.2.2).
func pps(qp int) []byte {
	var w bitWriter
	w.ue(0)       // pic_parameter_set_id
	w.ue(0)       // seq_parameter_set_id
	w.flag(false) // entropy_coding_mode_flag: CAVLC
	w.flag(false)
	w.ue(0) // num_slice_groups_minus1
	w.ue(0) // num_ref_idx_l0_default_active_minus1
	w.ue(0)
	w.flag(false) // weighted_pred_flag
	w.put(0, 2)   // weighted_bipred_idc
	w.se(qp - 26) // pic_init_qp_minus26
	w.se(0)
	w.se(0)       // chroma_qp_index_offset
	w.flag(true)  // deblocking_filter_control_present_flag
	w.flag(false) // constrained_intra_pred_flag
	w.flag(false)
	w.trailing()
	return w.buf
}

// header writes the slice header (clause 7.3.3).
func (s *slice) header() {
	w := &s.w
	w.ue(uint32(s.firstRow * s.enc.mbW)) // first_mb_in_slice
	if s.enc.intra {
		w.ue(7) // I, as are all slices of the picture
	} else {
		w.ue(5) // P
	}
	w.ue(0) // pic_parameter_set_id
	w.put(uint32(s.enc.frameNum), log2MaxFrameNum)
	if s.enc.intra { // every I picture is an IDR picture
		w.ue(uint32(s.enc.idrID))
		w.flag(false) // no_output_of_prior_pics_flag
		w.flag(false) // long_term_reference_flag
	} else {
		w.flag(false) // num_ref_idx_active_override_flag
		w.flag(false) // ref_pic_list_modification_flag_l0
		w.flag(false) // adaptive_ref_pic_marking_mode_flag
	}
	w.se(0) // slice_qp_delta
	w.ue(1) // disable_deblocking_filter_idc
}
